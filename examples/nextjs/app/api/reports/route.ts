import { enqueueJobs, rateLimited } from "../../../lib/holdfast";

/** A report is a job of Holdfast's; a worker in Python, or in any language, runs it. Five a minute for each caller. */
export const POST = rateLimited({ limit: 5, window: 60, policy: "reports" }, async (request) => {
  const { to } = (await request.json()) as { to: string };
  const [job] = await enqueueJobs([{ queue: "reports", kind: "send_report", args: { to } }]);
  return Response.json({ id: job?.id }, { status: 202 });
});
