// pg-boss and graphile-worker: node node_worker.mjs boss|graphile install | enqueue FIRST COUNT SECONDS AGAIN | work
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const [, , peer, mode, first, count, seconds, again] = process.argv;
const dsn = process.env.DATABASE_URL;
const settings = JSON.parse(process.env.SETTINGS ?? "{}");
const require = createRequire(`${process.env.NODE_PEERS}/`);
const { Pool } = require("pg");

// A note outlives the fault: it is tried again for a minute, so that no job fails because of its own notes.
const pool = new Pool({ connectionString: dsn, max: 1, connectionTimeoutMillis: 5000, query_timeout: 10000 });
pool.on("error", () => {});
const NOTE = "INSERT INTO faults.notes (job, run, pid, what) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
const EARLIER = "SELECT count(*)::int AS n FROM faults.notes WHERE job = $1 AND what = 'begin' AND run <> $2";

async function note(job, run, what) {
  const end = Date.now() + 60_000;
  for (;;) {
    try {
      await pool.query(NOTE, [job, run, process.pid, what]);
      return (await pool.query(EARLIER, [job, run])).rows[0].n;
    } catch (error) {
      if (Date.now() > end) throw error;
      await sleep(50);
    }
  }
}

async function work(job) {
  const run = randomUUID();
  const earlier = await note(job.job, run, "begin");
  await sleep(1000 * (earlier ? job.again : job.seconds));
  await note(job.job, run, "end");
}

const jobs = () => Array.from({ length: Number(count) }, (_, n) => (
  { job: `j${Number(first) + n}`, seconds: Number(seconds), again: Number(again) }
));

const boss = {
  async open() {
    const { PgBoss } = require("pg-boss");
    const it = new PgBoss({ connectionString: dsn, ...settings.options });
    it.on("error", (error) => console.error(`${error}`));
    await it.start();
    return it;
  },
  async install() {
    const it = await this.open();
    await it.createQueue("fault", settings.queue ?? {});
  },
  async enqueue() {
    const it = await this.open();
    await it.insert("fault", jobs().map((data) => ({ data })));
  },
  async work() {
    const it = await this.open();
    const each = (batch) => Promise.all(batch.map((job) => work(job.data)));
    await it.work("fault", { localConcurrency: 10, batchSize: 1, ...settings.work }, each);
  },
};

const graphile = {
  async module() { return import(`${process.env.NODE_PEERS}/node_modules/graphile-worker/dist/index.js`); },
  async utils() { return (await this.module()).makeWorkerUtils({ connectionString: dsn }); },
  async install() { await (await this.utils()).migrate(); },
  async enqueue() {
    await (await this.utils()).addJobs(jobs().map((payload) => ({ identifier: "fault", payload })));
  },
  async work() {
    const { run } = await this.module();
    const runner = await run({
      preset: { worker: { connectionString: dsn, concurrentJobs: 10, maxPoolSize: 12, ...settings.worker } },
      taskList: { fault: (payload) => work(payload) },
    });
    await runner.promise;
  },
};

await { boss, graphile }[peer][mode]();
if (mode !== "work") process.exit(0);
