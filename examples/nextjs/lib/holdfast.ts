/**
 * Holdfast's ledger from TypeScript: its SQL functions, called through Supabase's RPC with fetch and nothing else.
 *
 * For servers only (route handlers, server actions, edge functions): the key may do everything. The address and the key
 * are SUPABASE_URL and SUPABASE_SERVICE_KEY (sb_secret_..., or the older service_role key).
 */

declare const process: { env: Record<string, string | undefined> };

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** The ledger did not answer in time, or refused. `status` is HTTP's, 0 where nothing answered. */
export class LedgerError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
    this.name = "LedgerError";
  }
}

/** Calls a function of the ledger. `timeout` in milliseconds. Throws LedgerError. */
export async function rpc<T>(name: string, args: Record<string, Json>, timeout = 5_000): Promise<T> {
  const address = process.env.SUPABASE_URL;
  const key = process.env.SUPABASE_SERVICE_KEY;
  if (!address || !key) {
    throw new LedgerError("SUPABASE_URL and SUPABASE_SERVICE_KEY must be set", 0);
  }
  // The new keys are no tokens; the older ones go into both fields.
  const bearer: Record<string, string> = key.startsWith("sb_") ? {} : { Authorization: `Bearer ${key}` };
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(`${address.replace(/\/+$/, "")}/rest/v1/rpc/holdfast_${name}`, {
      method: "POST",
      headers: { apikey: key, "Content-Type": "application/json", ...bearer },
      body: JSON.stringify(args),
      cache: "no-store",
      signal: AbortSignal.timeout(timeout),
    });
    text = await answer.text();
  } catch (error) {
    throw new LedgerError(`the ledger did not answer ${name}: ${error instanceof Error ? error.name : "error"}`, 0);
  }
  if (!answer.ok) {
    throw new LedgerError(`the ledger refused ${name} with ${answer.status}`, answer.status);
  }
  return (text ? JSON.parse(text) : null) as T;
}

// Rate limits -----------------------------------------------------------------------------------------------------

export interface Decision {
  allowed: boolean;
  limit: number;
  remaining: number;
  /** Seconds until the same request has room. */
  retry_after: number;
  /** Seconds until all of it is free again. */
  reset_after: number;
}

/** At most `limit` requests of `key` in any `window` seconds, over all callers of any language. Throws LedgerError. */
export async function checkRateLimit(key: string, limit: number, window = 60, policy?: string): Promise<Decision> {
  const args = { key, max_requests: limit, window_seconds: window, ...(policy ? { policy } : {}) };
  const [decision] = await rpc<Decision[]>("check_rate_limit", args, 1_000);
  if (!decision) {
    throw new LedgerError("the ledger gave no decision", 200);
  }
  return decision;
}

/** Who sends a request, as the proxy in front wrote it. Without a proxy that overwrites this field it is anybody's word. */
export function callerOf(request: Request): string {
  return request.headers.get("x-forwarded-for")?.split(",").at(-1)?.trim() || "unknown";
}

export interface Limit {
  limit: number;
  /** Seconds. */
  window?: number;
  policy?: string;
  /** Who is asking; by default their address. Return only what you have verified, such as a session's user. */
  identify?: (request: Request) => string | Promise<string>;
  /** What to do while the ledger does not answer: admit (the default), or refuse with 503. */
  withoutLedger?: "admit" | "refuse";
}

type Handler<Rest extends unknown[]> = (request: Request, ...rest: Rest) => Response | Promise<Response>;

/**
 * A route handler that answers 429 (RFC 6585) with Retry-After once its caller's limit is used up. What else the
 * framework passes to a handler, such as Next.js's `{ params }`, is passed on.
 */
export function rateLimited<Rest extends unknown[]>(
  given: Limit,
  handler: Handler<Rest>,
): (request: Request, ...rest: Rest) => Promise<Response> {
  const window = given.window ?? 60;
  return async (request, ...rest) => {
    let decision: Decision;
    try {
      const caller = await (given.identify ?? callerOf)(request);
      decision = await checkRateLimit(caller, given.limit, window, given.policy);
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      warn(`rate limit ${given.policy ?? "default"}: ${error.message}`);
      return given.withoutLedger === "refuse" ? refused(503, 1, {}) : handler(request, ...rest);
    }
    const policy = `"${given.policy ?? "default"}"`;
    const fields = {
      "RateLimit-Policy": `${policy};q=${decision.limit};w=${Math.ceil(window)}`,
      "RateLimit": `${policy};r=${decision.remaining};t=${Math.ceil(decision.reset_after)}`,
    };
    if (!decision.allowed) {
      return refused(429, Math.max(1, Math.ceil(decision.retry_after)), fields);
    }
    const answer = await handler(request, ...rest);
    const headers = new Headers(answer.headers);
    for (const [name, value] of Object.entries(fields)) headers.set(name, value);
    return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
  };
}

let warned = 0;

/** A limit that is not kept must not go unnoticed; nor may it fill the log: a line a minute. */
function warn(text: string): void {
  if (Date.now() - warned < 60_000) return;
  warned = Date.now();
  console.warn(text);
}

function refused(status: 429 | 503, seconds: number, fields: Record<string, string>): Response {
  const problem = {
    type: `https://iana.org/assignments/http-problem-types#${status === 429 ? "quota-exceeded" : "temporary-reduced-capacity"}`,
    title: status === 429 ? "Too many requests" : "Temporarily reduced capacity",
    status,
    detail: `Try again in ${seconds} s.`,
  };
  return new Response(JSON.stringify(problem), {
    status,
    headers: {
      "Content-Type": "application/problem+json",
      "Cache-Control": "no-store",
      "Retry-After": String(seconds),
      ...fields,
    },
  });
}

// Jobs ------------------------------------------------------------------------------------------------------------

export interface NewJob {
  kind: string;
  queue: string;
  args: { [name: string]: Json };
  /** Yours to make, and to keep while you try again: the same id is written once. */
  id?: string;
  /** Seconds. */
  delay?: number;
  unique_key?: string;
  priority?: number;
}

export interface Enqueued {
  ord: number;
  id: string;
  created: boolean;
}

/** Writes jobs, all or none, in the order given. Throws LedgerError; the same jobs with their ids may then be sent again. */
export async function enqueueJobs(jobs: NewJob[]): Promise<Enqueued[]> {
  const named = jobs.map((job) => ({ id: crypto.randomUUID(), ...job, policy: 0 }));
  const args = { jobs: JSON.stringify(named), policies: JSON.stringify({ policies: [{}] }) };
  const written = await rpc<Enqueued[]>("enqueue_jobs", args);
  return written.sort((one, other) => one.ord - other.ord);
}

export interface StaleJob {
  id: string;
  queue: string;
  kind: string;
  reason: string;
  silent_for: string | null;
}

/** Jobs that are stuck right now, and why. */
export async function findStaleJobs(staleAfter = "10 minutes"): Promise<StaleJob[]> {
  return rpc<StaleJob[]>("find_stale_jobs", { stale_after: staleAfter });
}

// Health ----------------------------------------------------------------------------------------------------------

interface Report {
  workers: { live: number };
  queues: { name: string; paused: boolean; workers: number; due_for: number | null }[];
  stale: { count: number };
  watches?: { table: string; stale: number; problem: string | null; every: number; looked_ago: number | null }[];
  monitors: { name: string; every: number | null; swept_ago: number | null }[];
}

export interface Health {
  status: "pass" | "warn" | "fail";
  reasons: string[];
}

/** How the ledger and its workers are. Never throws: a ledger that does not answer is a failure. */
export async function health(): Promise<Health> {
  let report: Report;
  try {
    report = await rpc<Report>("health_report", {}, 3_000);
  } catch {
    return { status: "fail", reasons: ["the ledger does not answer"] };
  }
  const fails: string[] = [];
  const warns: string[] = [];
  for (const queue of report.queues) {
    if (!queue.paused && queue.workers === 0 && (queue.due_for ?? 0) > 60) {
      fails.push(`${queue.name}: jobs are due, and no worker serves this queue`);
    }
  }
  for (const each of report.monitors) {
    if (each.every !== null && (each.swept_ago ?? Infinity) > 10 * each.every + 30) {
      fails.push(`${each.name} has stopped`);
    }
  }
  for (const each of report.watches ?? []) {
    if (each.problem !== null || (each.looked_ago ?? Infinity) > 10 * each.every + 30) {
      fails.push(`${each.table} cannot be looked at`);
    } else if (each.stale > 0) {
      warns.push(`${each.table}: ${each.stale} rows are stuck`);
    }
  }
  if (report.stale.count > 0) warns.push(`${report.stale.count} running jobs are stuck`);
  return { status: fails.length ? "fail" : warns.length ? "warn" : "pass", reasons: [...fails, ...warns] };
}
