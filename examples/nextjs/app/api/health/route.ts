import { health } from "../../../lib/holdfast";

export const dynamic = "force-dynamic";

/** The status for everybody; the reasons are for your log. */
export async function GET(): Promise<Response> {
  const found = await health();
  if (found.reasons.length) console.warn("health:", found.reasons.join("; "));
  return Response.json(
    { status: found.status },
    { status: found.status === "fail" ? 503 : 200, headers: { "Cache-Control": "no-store" } },
  );
}
