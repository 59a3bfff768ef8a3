// A subscriber in another language, as the README tells one to be: subscribe, read the log, follow
// live, drop what is known, read the log again where an id is missing; one event a line.
// node subscribe.mjs REDIS_URL TASK_ID [AFTER]
import { createRequire } from "node:module";

const { Redis } = createRequire(import.meta.url)("ioredis");

const [url, id, after] = process.argv.slice(2);
const [log, channel] = [`rw:{${id}}:events`, `rw:{${id}}:live`];
const ENDINGS = new Set(["completed", "failed", "cancelled", "expired"]);
const redis = new Redis(url);
const ear = new Redis(url);
let cursor = after;
let reading = Promise.resolve();

const place = (text) => text.split("-").map(Number);
const isNew = (event) => {
  if (!cursor) return true;
  const [[attempt, seq], [known, last]] = [place(event.id), place(cursor)];
  return attempt > known || (attempt === known && seq > last);
};
const follows = (event) => {
  if (!cursor) return false;
  const [[attempt, seq], [known, last]] = [place(event.id), place(cursor)];
  return attempt === known && seq === last + 1;
};

function show(event) {
  if (!isNew(event)) return;
  cursor = event.id;
  console.log(JSON.stringify(event));
  if (ENDINGS.has(event.type)) {
    redis.disconnect();
    ear.disconnect();
  }
}

async function readLog() {
  const entries = await redis.xrange(log, cursor ? `(${cursor}` : "-", "+");
  for (const [, [, event]] of entries) show(JSON.parse(event));
}

ear.on("message", (_, message) => {
  const event = JSON.parse(message);
  reading = reading.then(() => {
    if (!isNew(event)) return undefined;
    return event.type !== "stored" && follows(event) ? show(event) : readLog();
  });
});
await ear.subscribe(channel);
console.error("subscribed");
reading = reading.then(readLog);
