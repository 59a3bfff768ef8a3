// A producer in another language: put a task on Redis with celery-node.
// node produce.mjs REDIS_URL TASK_NAME TASK_JSON
import { createRequire } from "node:module";

const celery = createRequire(import.meta.url)("celery-node");

const [url, name, task] = process.argv.slice(2);
// celery-node needs a result backend to be made; nobody asks it for anything.
const client = celery.createClient(url, url, "router.interactive");
await client.isReady();
const sent = client.createTask(name).applyAsync([JSON.parse(task)]);
console.log(sent.taskId);
// It publishes without a promise of ours to await: behind it in the same connection comes this.
await new Promise(setImmediate);
await client.broker.redis.ping();
process.exit();
