// A producer and reader in another language: what it asks is encrypted and signed, and so it reads
// the answer. It writes the record, as the README has it, by the forms of box.py, keyring.py
// and signatures.py.
// node secret.mjs REDIS_URL CREATE_LUA ENCRYPTION_KEY SIGNING_NAME SIGNING_KEY PROMPT
import { createRequire } from "node:module";
import {
  createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, randomUUID,
} from "node:crypto";
import { readFileSync } from "node:fs";

const { Redis } = createRequire(import.meta.url)("ioredis");

const [url, script, encryptionKey, name, signingKey, prompt] = process.argv.slice(2);
const redis = new Redis(url);
const id = randomUUID();
const record = `rw:{${id}}`;

const derived = (info) => Buffer.from(hkdfSync("sha256", Buffer.from(encryptionKey, "base64"), "", info, 32));
const keyId = derived("router-worker key id").subarray(0, 4);
const taskKey = derived(`router-worker task ${id}`);

function seal(about, text) {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", taskKey, nonce).setAAD(Buffer.from(`${id}:${about}`));
  const parts = [Buffer.from([1]), keyId, nonce, cipher.update(text), cipher.final()];
  return Buffer.concat([...parts, cipher.getAuthTag()]);
}

function open(about, sealed) {
  if (sealed[0] !== 1 || !sealed.subarray(1, 5).equals(keyId)) throw new Error("another key");
  const cipher = createDecipheriv("aes-256-gcm", taskKey, sealed.subarray(5, 17));
  cipher.setAAD(Buffer.from(`${id}:${about}`)).setAuthTag(sealed.subarray(-16));
  return Buffer.concat([cipher.update(sealed.subarray(17, -16)), cipher.final()]).toString();
}

function openEvent(text) {
  const [head, sealed] = text.split(',"sealed":"');
  if (sealed === undefined) return JSON.parse(text);
  const said = open(head, Buffer.from(sealed.slice(0, -2), "base64"));
  return { ...JSON.parse(`${head}}`), ...JSON.parse(said) };
}

function sign(at, task, body) {
  const head = `router-worker task 1\n${name}\n${at}\n${id}\nchat\n${Buffer.byteLength(task)}\n`;
  const mac = createHmac("sha256", Buffer.from(signingKey, "base64"));
  return `${name} ${at} ${mac.update(head).update(task).update(body).digest("hex")}`;
}

const task = JSON.stringify({ kind: "chat", id });
const body = JSON.stringify({
  model: "m", messages: [{ role: "user", content: prompt }], stream: true,
});
const content = createHmac("sha256", derived("router-worker content")).update(body).digest("hex");
const queue = "router.interactive";
const fields = [
  "kind", "chat", "queue", queue, "result_ttl", 86_400, "task", seal("task", task),
  "request", seal("request", body), "signature", sign(Date.now(), task, body),
];
await redis.zadd("rw:due", "NX", Date.now() + 20_000, id);
await redis.eval(
  readFileSync(script, "utf8"), 2, record, `${record}:events`, id, `${record}:live`, content, "",
  ...fields,
);
await redis.lpush(queue, JSON.stringify({
  body: Buffer.from(JSON.stringify([[id], {}, {}])).toString("base64"),
  "content-encoding": "utf-8",
  "content-type": "application/json",
  headers: { lang: "js", task: "router.chat", id, rung_at: Date.now() },
  properties: {
    body_encoding: "base64",
    delivery_info: { exchange: "", routing_key: queue },
    delivery_tag: randomUUID(),
  },
}));

let [last, said, event] = ["0", "", {}];
while (!["completed", "failed", "cancelled", "expired"].includes(event.type)) {
  const news = await redis.xread("BLOCK", 20000, "STREAMS", `${record}:events`, last);
  if (!news) throw new Error("nothing more came");
  for (const [place, [, text]] of news[0][1]) {
    last = place;
    event = openEvent(text);
    if (event.type === "chunk") said += event.data.choices[0]?.delta.content ?? "";
  }
}
const result = JSON.parse(open("result", await redis.hgetBuffer(record, "result")));
console.log(JSON.stringify({ id, said, result: result.response.choices[0].message.content }));
redis.disconnect();
