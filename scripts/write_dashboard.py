#!/usr/bin/env python3
"""Write deploy/grafana/holdfast.json, the dashboard, from the definitions of all metrics. `--check` only compares."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from metric_names import problems

from holdfast.core import metrics as m
from holdfast.core.metrics import Metric

PATH = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "holdfast.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
FAILING = '{queue=~"$queue",outcome=~"failed|dead"}'
CHOSEN = '{queue=~"$queue"}'


@dataclass(frozen=True)
class Panel:
    """One panel: each query with what its lines are called. `about` gives the description."""

    title: str
    about: Metric
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    alarm: float | None = None
    low_is_bad: bool = False


def stat(title: str, about: Metric, query: str, unit: str = "short", alarm: float | None = 1, **more: bool) -> Panel:
    return Panel(title, about, ((query, ""),), unit, "stat", alarm, **more)


def quantiles(metric: Metric) -> tuple[tuple[str, str], ...]:
    rate = f"sum by (le) (rate({metric.name}_bucket{CHOSEN}[$__rate_interval]))"
    return tuple((f"histogram_quantile({q}, {rate})", f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99))


def rate(metric: Metric, by: str, selector: str = "") -> str:
    return f"sum by ({by}) (rate({metric.shown_name}{selector}[$__rate_interval]))"


def largest(metric: Metric, by: str, selector: str = "") -> str:
    return f"max by ({by}) ({metric.shown_name}{selector})"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Is it well?", (
        stat("Ledger", m.LEDGER_UP, f"max({m.LEDGER_UP.shown_name})", low_is_bad=True),
        stat("Open incidents", m.INCIDENTS, f"max({m.INCIDENTS.shown_name})"),
        stat("Stuck jobs", m.STALE, f"sum({m.STALE.shown_name})"),
        stat("Dead jobs", m.DEAD, f"max({m.DEAD.shown_name})"),
        stat("Dead letters in SQS", m.LETTERS, f"max({m.LETTERS.shown_name})"),
        stat("Oldest due job", m.OLDEST_DUE, f"max({m.OLDEST_DUE.shown_name})", "s", 300),
        stat("Live workers", m.WORKERS, f'sum({m.WORKERS.shown_name}{{state!="silent"}})', low_is_bad=True),
        stat("False rescues", m.FALSE_RESCUES, f"max({m.FALSE_RESCUES.shown_name})"),
    )),
    ("Queues", (
        Panel("Oldest due job", m.OLDEST_DUE, ((largest(m.OLDEST_DUE, "queue", CHOSEN), "{{queue}}"),), "s", alarm=300),
        Panel("Jobs that wait or run", m.JOBS, ((largest(m.JOBS, "queue, status", CHOSEN), "{{queue}} {{status}}"),)),
        Panel("Longest run", m.LONGEST_RUN, ((largest(m.LONGEST_RUN, "queue", CHOSEN), "{{queue}}"),), "s"),
        Panel("Paused", m.QUEUE_PAUSED, ((largest(m.QUEUE_PAUSED, "queue", CHOSEN), "{{queue}}"),)),
    )),
    ("Flow", (
        Panel("Runs that ended", m.SETTLED, ((rate(m.SETTLED, "outcome", CHOSEN), "{{outcome}}"),), "ops"),
        Panel("From due to claimed", m.WAIT, quantiles(m.WAIT), "s"),
        Panel("From claimed to ended", m.RUN, quantiles(m.RUN), "s"),
        Panel("Failed and dead, by kind", m.SETTLED,
              ((rate(m.SETTLED, "kind, outcome", FAILING), "{{kind}} {{outcome}}"),), "ops"),
    )),
    ("Rescue", (
        Panel("Besides the happy path", m.EVENTS, ((rate(m.EVENTS, "event, reason"), "{{event}} {{reason}}"),), "ops"),
        Panel("Stuck jobs", m.STALE, ((largest(m.STALE, "reason"), "{{reason}}"),)),
        Panel("Fenced late writes", m.FENCED, ((f"increase({m.FENCED.shown_name}[$__rate_interval])", "fenced"),)),
        Panel("The brake", m.BRAKE, ((f"max({m.BRAKE.shown_name})", "held"),)),
    )),
    ("Workers", (
        Panel("Workers", m.WORKERS, ((largest(m.WORKERS, "state"), "{{state}}"),)),
        Panel("Slots", m.SLOTS, ((f"max({m.SLOTS.shown_name})", "slots"),
                                 (f'sum({m.JOBS.shown_name}{{status="running"}})', "running"))),
        Panel("Lost within the hour, and draining", m.WORKERS_LOST,
              ((f"max({m.WORKERS_LOST.shown_name})", "lost"), (f"max({m.WORKERS_DRAINING.shown_name})", "draining"))),
        Panel("Processes that ended unasked", m.DEATHS,
              ((f"sum by (process) (increase({m.DEATHS.shown_name}[$__rate_interval]))", "{{process}}"),)),
    )),
    ("Monitors and alerts", (
        Panel("Since a monitor swept", m.SWEPT, ((f"time() - {largest(m.SWEPT, 'monitor')}", "{{monitor}}"),), "s"),
        Panel("Open incidents", m.INCIDENTS, ((f"max({m.INCIDENTS.shown_name})", "open"),)),
        Panel("Notifications that wait", m.NOTIFICATIONS, ((largest(m.NOTIFICATIONS, "state"), "{{state}}"),)),
        Panel("Health checks", m.CHECK, ((f"min by (check) ({m.CHECK.shown_name})", "{{check}}"),)),
    )),
    ("Rate limits", (
        Panel("Decisions", m.LIMITS, ((rate(m.LIMITS, "policy, outcome"), "{{policy}} {{outcome}}"),), "ops"),
        Panel("Decided by", m.LIMITS, ((rate(m.LIMITS, "source"), "{{source}}"),), "ops"),
        Panel("Round trip", m.FLIGHT, ((largest(m.FLIGHT, "percentile"), "{{percentile}}"),), "s"),
        Panel("Without Postgres", m.DEGRADED, ((largest(m.DEGRADED, "instance"), "{{instance}}"),)),
    )),
    ("Postgres and SQS", (
        Panel("Connections", m.CONNECTIONS, ((f"max({m.CONNECTIONS.shown_name})", "taken"),
                                             (f"max({m.MAX_CONNECTIONS.shown_name})", "most"))),
        Panel("Oldest transaction", m.OLDEST_TRANSACTION, ((f"max({m.OLDEST_TRANSACTION.shown_name})", "oldest"),), "s",
              alarm=900),
        Panel("Replication lag", m.REPLICATION_LAG, ((f"max({m.REPLICATION_LAG.shown_name})", "slowest"),), "s"),
        Panel("Messages in SQS", m.SQS, ((largest(m.SQS, "queue, state"), "{{queue}} {{state}}"),)),
    )),
    ("Processes", (
        Panel("Event loop lag", m.LOOP_LAG, ((largest(m.LOOP_LAG, "instance"), "{{instance}}"),), "s"),
        Panel("Connections for requests", m.POOL, ((largest(m.POOL, "instance, state"), "{{instance}} {{state}}"),)),
        Panel("Since a look came about", m.LOOK_AGE, ((largest(m.LOOK_AGE, "look"), "{{look}}"),), "s"),
        Panel("Since a process turned", m.PROGRESS_AGE, ((largest(m.PROGRESS_AGE, "process"), "{{process}}"),), "s"),
    )),
)  # fmt: skip


def dashboard() -> str:
    panels: list[dict[str, object]] = []
    top = 0
    for title, row in ROWS:
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": top}})  # fmt: skip
        width, height = 24 // len(row), 4 if row[0].kind == "stat" else 8
        for place, panel in enumerate(row):
            where = {"h": height, "w": width, "x": place * width, "y": top + 1}
            panels.append({"id": len(panels) + 1, "gridPos": where, **drawn(panel)})
        top += height + 1
    whole = {
        "uid": "holdfast",
        "title": "Holdfast",
        "description": "Written by scripts/write_dashboard.py from the definitions of all metrics.",
        "tags": ["holdfast"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [
            {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0},
            {"name": "queue", "label": "Queue", "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1,
             "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
             "query": {"query": f"label_values({m.OLDEST_DUE.shown_name}, queue)", "refId": "queue"}},
        ]},
        "panels": panels,
    }  # fmt: skip
    return json.dumps(whole, indent=1) + "\n"


def drawn(panel: Panel) -> dict[str, object]:
    for query, _ in panel.queries:
        wrong = problems(query)
        if wrong:
            raise SystemExit(f"{panel.title}: {'; '.join(wrong)}")
    targets = [
        {"refId": chr(65 + n), "datasource": SOURCE, "expr": query, **({"legendFormat": name} if name else {})}
        for n, (query, name) in enumerate(panel.queries)
    ]
    colours = ("red", "green") if panel.low_is_bad else ("green", "red")
    steps: list[dict[str, object]] = [{"color": colours[0], "value": None}]
    if panel.alarm is not None:
        steps.append({"color": colours[1], "value": panel.alarm})
    defaults = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about.help,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"colorMode": "background"}
        if panel.kind == "stat"
        else {"tooltip": {"mode": "multi", "sort": "desc"}},
    }


def main() -> int:
    wanted = dashboard()
    if PATH.exists() and PATH.read_text() == wanted:
        return 0
    if "--check" in sys.argv:
        print(f"{PATH.name} is stale; run: python scripts/write_dashboard.py", file=sys.stderr)
        return 1
    PATH.write_text(wanted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
