#!/usr/bin/env python3
"""Write docs/metrics.md from the definitions of all metrics (src/holdfast/core/metrics.py).

python scripts/write_metrics_page.py           write it
python scripts/write_metrics_page.py --check   fail if it is not what this script would write
"""

import sys
from pathlib import Path

from holdfast.core.histogram import BOUNDS
from holdfast.core.metrics import ALL, Metric, Scope
from holdfast.instrument.exposition import LEAST_BOUND

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

HEAD = """\
# Metrics

`GET /metrics` of the API shows everything below, from memory: a scrape asks the ledger nothing. Where keys are in use
it takes one (`Authorization: Bearer hf_...`). OpenMetrics is given to who asks for it by `Accept`. This page is written
from the definitions that the exporters are made of.

Cluster metrics are read from the ledger, so every instance shows the same ones, and a sum over instances counts them
several times. Scrape `/metrics?scope=cluster` from one instance and `/metrics?scope=process` from all:

```yaml
scrape_configs:
  - job_name: holdfast
    params: {scope: [cluster]}
    authorization: {credentials_file: /etc/prometheus/holdfast.key}
    static_configs: [{targets: ["jobs.example.org:8484"]}]
  - job_name: holdfast-processes
    params: {scope: [process]}
    authorization: {credentials_file: /etc/prometheus/holdfast.key}
    static_configs: [{targets: ["api-1:8484", "api-2:8484"]}]
  - job_name: holdfast-workers       # HOLDFAST_PROBE_PORT=8485, HOLDFAST_PROBE_METRICS=true
    static_configs: [{targets: ["worker-1:8485", "worker-2:8485"]}]
```

No label grows without bound: a hundred queues are shown, those whose jobs wait longest first, and two hundred pairs of
queue and kind. What was not seen for 30 seconds is not shown, since an old number is worse than none: alert on
`absent(holdfast_ledger_up)` and on `holdfast_ledger_up == 0` as well.
"""

MIDDLE = """
## What to alert on

[deploy/prometheus/rules.yaml](../deploy/prometheus/rules.yaml) has these and more as rules, each tested with `promtool`
and leading to its place on the [runbook](operations/runbook.md); a dashboard is
[deploy/grafana/holdfast.json](../deploy/grafana/holdfast.json). Both are written from these definitions.

| | |
|---|---|
| jobs wait | `max by (queue) (holdfast_queue_oldest_due_seconds) > 300` |
| nobody works | `sum(holdfast_workers{state!="silent"}) == 0` |
| a monitor has stopped | `time() - holdfast_monitor_last_sweep_timestamp_seconds > 1000` (one sweeps each 300 s) |
| jobs die | `sum by (kind) (increase(holdfast_jobs_settled_total{outcome="dead"}[1h])) > 0` |
| stuck jobs stay stuck | `sum(holdfast_stale_jobs) > 0`, for 2 minutes |
| a hang | `max by (queue) (holdfast_queue_longest_run_seconds) > 3600` |
| nobody is told | `holdfast_notifications{state="failing"} > 0`, for 5 minutes |
| limits without Postgres | `max(holdfast_rate_limit_degraded) > 0` |
| health itself is blind | `max(holdfast_health_look_age_seconds) > 60` |
| a promise is broken | `increase(holdfast_false_rescues_total[1h]) > 0` |

How long jobs wait, at the 95th percentile:

```
histogram_quantile(0.95, sum by (le, queue) (rate(holdfast_job_wait_seconds_bucket[5m])))
```
"""

SERVICE = "Workers and monitors, on their probe port"


def page() -> str:
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS if bound >= LEAST_BOUND)
    tail = f"\nHistograms have the bounds {bounds} seconds.\n"
    titles = {Scope.CLUSTER: "Cluster", Scope.PROCESS: "Processes of the API", Scope.SERVICE: SERVICE}
    tables = [f"\n## {titles[scope]}\n\n{_table([each for each in ALL if each.scope is scope])}" for scope in Scope]
    return f"{HEAD}{MIDDLE}{''.join(tables)}{tail}"


def _table(metrics: list[Metric]) -> str:
    rows = [f"| `{each.shown_name}` | {each.type} | {', '.join(each.labels)} | {each.help} |" for each in metrics]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows]) + "\n"


def main() -> int:
    wanted = page()
    if PAGE.exists() and PAGE.read_text() == wanted:
        return 0
    if "--check" in sys.argv:
        print(f"{PAGE.name} is not what its script writes; run: python scripts/write_metrics_page.py", file=sys.stderr)
        return 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
