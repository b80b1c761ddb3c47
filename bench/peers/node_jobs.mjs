// pg-boss and graphile-worker: enqueue when asked (see bench/harness.py), or, with `work`, are a worker until stopped.
// node node_jobs.mjs boss|graphile DSN RUNS [work BATCH]
import { appendFileSync, openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [, , peer, dsn, path, mode, batch] = process.argv;
const require = createRequire(`${process.env.NODE_PEERS}/`);
const { Client } = require("pg");
const payload = { payload: "x".repeat(185) };
const runs = openSync(path, "a");
const noted = () => writeSync(runs, `${process.hrtime.bigint().toString().padStart(20, "0")}\n`);

const boss = {
  async open() {
    const { PgBoss } = require("pg-boss");
    this.it = new PgBoss({ connectionString: dsn, useListenNotify: true });
    this.it.on("error", (error) => appendFileSync(2, `${error}\n`));
    await this.it.start();
    await this.it.createQueue("noop", { notify: true });
  },
  async work(size) {
    const handler = async (jobs) => jobs.forEach(noted);
    const options = { batchSize: size, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true };
    await this.it.work("noop", options, handler);
  },
  one: function () { return this.it.send("noop", payload); },
  many: function (count) { return this.it.insert("noop", Array.from({ length: count }, () => ({ data: payload }))); },
  empty: "DELETE FROM pgboss.job",
  left: "SELECT count(*)::int AS left FROM pgboss.job WHERE state < 'completed'",
  table: "pgboss.job",
};

const graphile = {
  async open() {
    const { makeWorkerUtils } = await import(`${process.env.NODE_PEERS}/node_modules/graphile-worker/dist/index.js`);
    this.it = await makeWorkerUtils({ connectionString: dsn });
    await this.it.migrate();
  },
  async work(size) {
    const { run } = await import(`${process.env.NODE_PEERS}/node_modules/graphile-worker/dist/index.js`);
    // size 0: as it comes, for the shortest latency
    const worker = size
      ? { concurrentJobs: 24, localQueue: { size }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
      : { concurrentJobs: 10 };
    await run({
      preset: { worker: { connectionString: dsn, maxPoolSize: 12, ...worker } },
      taskList: { noop: async () => noted() },
    });
  },
  one: function () { return this.it.addJob("noop", payload); },
  many: function (count) {
    return this.it.addJobs(Array.from({ length: count }, () => ({ identifier: "noop", payload })));
  },
  empty: "TRUNCATE graphile_worker._private_jobs",
  left: "SELECT count(*)::int AS left FROM graphile_worker._private_jobs",
  table: "graphile_worker._private_jobs",
};

const side = { boss, graphile }[peer];

async function answer({ do: what, count = 0 }) {
  const began = performance.now(), beganAt = Number(process.hrtime.bigint());
  if (what === "empty" || what === "left") {
    const client = new Client({ connectionString: dsn });
    await client.connect();
    const { rows } = await client.query(what === "left" ? side.left : side.empty);
    if (what === "empty") await client.query(`VACUUM ANALYZE ${side.table}`);
    await client.end();
    return rows?.[0] ?? {};
  }
  if (what === "many") {
    for (let start = 0; start < count; start += 1000) await side.many(Math.min(1000, count - start));
  }
  if (what === "one") for (let n = 0; n < count; n++) await side.one();
  return { rate: count / ((performance.now() - began) / 1000), began: beganAt };
}

await side.open();
if (mode === "work") {
  await side.work(Number(batch));
} else {
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(JSON.parse(line))));
  }
  process.exit(0);
}
