// Reads an AsyncAPI document with the official parser: node asyncapi_check.mjs FILE
// Prints the parser's complaints as JSON, and what it found; exits with 1 where it found nothing.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../package.json", import.meta.url));
const { Parser } = require("@asyncapi/parser");

const text = readFileSync(process.argv[2], "utf8");
const { document, diagnostics } = await new Parser().parse(text);
const found = document && {
  version: document.version(),
  channels: Object.fromEntries(document.channels().all().map((one) => [one.id(), one.address()])),
  operations: document.operations().all().map((one) => one.id()),
  messages: document.components().messages().all().map((one) => one.id()),
};
const complaints = diagnostics.map(({ code, severity, message, path }) => ({
  code, severity, message, path: path.join("."),
}));
process.stdout.write(JSON.stringify({ found, complaints }, null, 2) + "\n");
process.exitCode = document ? 0 : 1;
