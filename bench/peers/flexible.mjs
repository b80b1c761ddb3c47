// rate-limiter-flexible on Postgres, as its own documentation uses it; measures when asked (see bench/harness.py).
import { createRequire } from "node:module";
import readline from "node:readline";

const [folder, host, port, database, user] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const { Pool } = require("pg");
const { RateLimiterPostgres } = require("rate-limiter-flexible");

// Its best: commits are not waited for, as with ours.
const pools = new Map();
async function limiterOf(connections) {
  if (!pools.has(connections)) {
    const pool = new Pool({ host, port: Number(port), database, user, max: connections, options: "-c synchronous_commit=off" });
    const limiter = await new Promise((resolve, reject) => {
      const made = new RateLimiterPostgres(
        { storeClient: pool, points: 1000000000, duration: 60, tableName: "flexible", keyPrefix: "r" },
        (error) => (error ? reject(error) : resolve(made)),
      );
    });
    pools.set(connections, limiter);
  }
  return pools.get(connections);
}

async function measure({ keys, callers, connections, seconds }) {
  const limiter = await limiterOf(connections);
  let count = 0;
  const began = performance.now();
  const end = began + seconds * 1000;
  const caller = async (number) => {
    let place = number * 7919;
    while (performance.now() < end) {
      place += 1;
      await limiter.consume(`user:${place % keys}`);
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, number) => caller(number)));
  return (count * 1000) / (performance.now() - began);
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  try {
    console.log(JSON.stringify({ rate: await measure(JSON.parse(line)) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error).slice(0, 300) }));
  }
}
process.exit(0);
