#!/usr/bin/env python3
"""Write the alerts for Prometheus, and their tests for `promtool test rules`, from the definitions of all metrics.

python scripts/write_alerts.py                   write deploy/prometheus/rules.yaml and tests.yaml
python scripts/write_alerts.py --check           fail if they are not what this script would write
python scripts/write_alerts.py --runbook URL     write rules.yaml alone, to standard output, with another runbook
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from metric_names import problems

from holdfast.core import metrics as m

ROOT = Path(__file__).resolve().parent.parent
FOLDER, PAGE = ROOT / "deploy" / "prometheus", ROOT / "docs" / "operations" / "runbook.md"
#: Where the documentation is served; there is no such host, so that nobody takes it for theirs.
RUNBOOK = "https://docs.example.org/holdfast/operations/runbook/"


@dataclass(frozen=True)
class Alert:
    """One alert. `fires` are series that make it fire, with the labels that it then has; `calm` make it silent."""

    name: str
    expr: str
    wait: str
    severity: str
    summary: str
    anchor: str
    fires: dict[str, str]
    calm: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)


QUEUE = '{queue="mail"}'
DUE, RUNNING = f"{m.OLDEST_DUE.shown_name}{QUEUE}", f"{m.LONGEST_RUN.shown_name}{QUEUE}"
IDLE = f'{m.WORKERS.shown_name}{{state="idle"}}'
#: A value that does not change, for 40 minutes of one a minute.
STILL = "{}x40"

ALERTS = (
    Alert(
        "OldestJobTooOld", f"max by (queue) ({m.OLDEST_DUE.shown_name}) > 300", "5m", "warning",
        "A due job of {{ $labels.queue }} has waited for more than 5 minutes", "oldest-job",
        {DUE: STILL.format(400)}, {DUE: STILL.format(200)},
        {"queue": "mail"},
    ),
    Alert(
        "NoWorkers",
        f'sum({m.WORKERS.shown_name}{{state!="silent"}}) == 0 and max({m.OLDEST_DUE.shown_name}) > 0', "2m", "critical",
        "Jobs are due and no worker lives", "no-workers",
        {IDLE: STILL.format(0), DUE: STILL.format(60)},
        {IDLE: STILL.format(1), DUE: STILL.format(60)},
    ),
    Alert(
        "QueueNotDraining",
        f"max by (queue) ({m.OLDEST_DUE.shown_name}) > 60 unless on (queue) "
        f"(sum by (queue) (rate({m.SETTLED.shown_name}[10m])) > 0) "
        f"unless on (queue) ({m.QUEUE_PAUSED.shown_name} == 1)",
        "10m", "critical",
        "Jobs of {{ $labels.queue }} are due and none has ended for 10 minutes", "queue-not-draining",
        {DUE: STILL.format(700),
         f'{m.SETTLED.shown_name}{{queue="mail",kind="send",outcome="succeeded"}}': STILL.format(9)},
        {DUE: STILL.format(700),
         f'{m.SETTLED.shown_name}{{queue="mail",kind="send",outcome="succeeded"}}': "0+5x40"},
        {"queue": "mail"},
    ),
    Alert(
        "StaleJobs", f"sum({m.STALE.shown_name}) > 0", "2m", "critical",
        "Stuck jobs are not taken back", "stale-jobs",
        {f'{m.STALE.shown_name}{{reason="worker_gone"}}': STILL.format(3)},
        {f'{m.STALE.shown_name}{{reason="worker_gone"}}': STILL.format(0)},
    ),
    Alert(
        "DeadLetterQueueNotEmpty", f"max({m.LETTERS.shown_name}) > 0", "5m", "warning",
        "Messages lie in a watched dead-letter queue", "dead_letters",
        {m.LETTERS.shown_name: STILL.format(2)}, {m.LETTERS.shown_name: STILL.format(0)},
    ),
    Alert(
        "JobsDie", f'sum by (kind) (increase({m.SETTLED.shown_name}{{outcome="dead"}}[1h])) > 0', "0m", "warning",
        "Jobs of {{ $labels.kind }} went dead within the hour", "dead_letters",
        {f'{m.SETTLED.shown_name}{{queue="mail",kind="send",outcome="dead"}}': "0+1x40"},
        {f'{m.SETTLED.shown_name}{{queue="mail",kind="send",outcome="dead"}}': STILL.format(7)},
        {"kind": "send"},
    ),
    Alert(
        "RunHangs", f"max by (queue) ({m.LONGEST_RUN.shown_name}) > 3660", "5m", "warning",
        "A run on {{ $labels.queue }} lasts for more than an hour", "a-run-hangs",
        {RUNNING: STILL.format(4000)}, {RUNNING: STILL.format(60)},
        {"queue": "mail"},
    ),
    Alert(
        "MonitorDead", f"time() - max by (monitor) ({m.SWEPT.shown_name}) > 1000", "2m", "critical",
        "The monitor {{ $labels.monitor }} has not swept for more than 16 minutes", "monitor-dead",
        {f'{m.SWEPT.shown_name}{{monitor="rescue_stale_jobs"}}': STILL.format(0)},
        {f'{m.SWEPT.shown_name}{{monitor="rescue_stale_jobs"}}': "0+60x40"},
        {"monitor": "rescue_stale_jobs"},
    ),
    Alert(
        "HealthSnapshotStale", f"max by (look) ({m.LOOK_AGE.shown_name}) > 60", "2m", "warning",
        "Nothing new was learnt of {{ $labels.look }} for a minute", "health-is-blind",
        {f'{m.LOOK_AGE.shown_name}{{look="queues"}}': STILL.format(90)},
        {f'{m.LOOK_AGE.shown_name}{{look="queues"}}': STILL.format(4)},
        {"look": "queues"},
    ),
    Alert(
        "LedgerDown", f"max({m.LEDGER_UP.shown_name}) == 0", "1m", "critical",
        "The ledger does not answer", "database",
        {m.LEDGER_UP.shown_name: STILL.format(0)}, {m.LEDGER_UP.shown_name: STILL.format(1)},
    ),
    Alert(
        "NothingIsSeen", f"absent({m.LEDGER_UP.shown_name})", "5m", "critical",
        "No instance of the API is scraped", "health-is-blind",
        {}, {m.LEDGER_UP.shown_name: STILL.format(1)},
    ),
    Alert(
        "SchemaDrift", f'min({m.CHECK.shown_name}{{check="schema"}}) == 0', "5m", "critical",
        "The ledger's schema is not that of this version", "schema",
        {f'{m.CHECK.shown_name}{{check="schema"}}': STILL.format(0)},
        {f'{m.CHECK.shown_name}{{check="schema"}}': STILL.format(1)},
    ),
    Alert(
        "AlertDeliveryFailing", f'max({m.NOTIFICATIONS.shown_name}{{state="failing"}}) > 0', "5m", "critical",
        "Incidents are open and nobody could be told", "nobody-is-told",
        {f'{m.NOTIFICATIONS.shown_name}{{state="failing"}}': STILL.format(1)},
        {f'{m.NOTIFICATIONS.shown_name}{{state="failing"}}': STILL.format(0)},
    ),
    Alert(
        "BrakeHeld", f"max({m.BRAKE.shown_name}) > 0", "2m", "warning",
        "Silent workers are not declared gone, longer than the brake should hold", "the-brake-holds",
        {m.BRAKE.shown_name: STILL.format(1)}, {m.BRAKE.shown_name: STILL.format(0)},
    ),
    Alert(
        "LimitsWithoutPostgres", f"max({m.DEGRADED.shown_name}) > 0", "2m", "warning",
        "Rate limits are kept in memory", "limits_without_postgres",
        {m.DEGRADED.shown_name: STILL.format(1)}, {m.DEGRADED.shown_name: STILL.format(0)},
    ),
    Alert(
        "OldTransaction", f"max({m.OLDEST_TRANSACTION.shown_name}) > 900", "5m", "warning",
        "A transaction has been open for more than 15 minutes: it slows every queue", "old-transaction",
        {m.OLDEST_TRANSACTION.shown_name: STILL.format(1000)}, {m.OLDEST_TRANSACTION.shown_name: STILL.format(5)},
    ),
    Alert(
        "ProcessesDie", f"sum by (instance, process) (increase({m.DEATHS.shown_name}[30m])) > 5", "0m", "warning",
        "{{ $labels.process }} of {{ $labels.instance }} died more than 5 times within half an hour", "processes-die",
        {f'{m.DEATHS.shown_name}{{process="worker",instance="a:1"}}': "0+1x40"},
        {f'{m.DEATHS.shown_name}{{process="worker",instance="a:1"}}': STILL.format(3)},
        {"process": "worker", "instance": "a:1"},
    ),
    Alert(
        "PromiseBroken", f"increase({m.FALSE_RESCUES.shown_name}[1h]) > 0", "0m", "critical",
        "A job was taken from a run still to be trusted", "a-promise-is-broken",
        {m.FALSE_RESCUES.shown_name: "0+1x40"}, {m.FALSE_RESCUES.shown_name: STILL.format(2)},
    ),
)  # fmt: skip
_PLACE = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
HEAD = """\
# Written by scripts/write_alerts.py; do not edit.
"""


def rules(runbook: str = RUNBOOK) -> str:
    group = {"name": "holdfast", "rules": [_rule(alert, runbook) for alert in ALERTS]}
    about = f"# The runbook's address: python scripts/write_alerts.py --runbook URL, or replace {RUNBOOK}\n"
    return HEAD + about + _dump({"groups": [group]})


def _rule(alert: Alert, runbook: str) -> dict[str, object]:
    wrong = problems(alert.expr)
    if wrong:
        raise SystemExit(f"{alert.name}: {'; '.join(wrong)}")
    return {
        "alert": f"Holdfast{alert.name}",
        "expr": alert.expr,
        **({"for": alert.wait} if alert.wait != "0m" else {}),
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook_url": f"{runbook}#{alert.anchor}"},
    }


def tests() -> str:
    cases = []
    for alert in ALERTS:
        summary = _PLACE.sub(lambda place, labels=alert.labels: labels[place[1]], alert.summary)
        told = {
            "exp_labels": {"severity": alert.severity, **alert.labels},
            "exp_annotations": {"summary": summary, "runbook_url": f"{RUNBOOK}#{alert.anchor}"},
        }
        for name, series, expected in (("fires", alert.fires, [told]), ("is silent", alert.calm, [])):
            given = [{"series": each, "values": values} for each, values in series.items()]
            check = {"eval_time": "35m", "alertname": f"Holdfast{alert.name}", "exp_alerts": expected}
            case = {"name": f"{alert.name} {name}", "interval": "1m", "input_series": given, "alert_rule_test": [check]}
            cases.append(case)
    return HEAD + _dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases})


def _dump(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=1000, allow_unicode=True)


def main() -> int:
    if "--runbook" in sys.argv:
        print(rules(sys.argv[sys.argv.index("--runbook") + 1]), end="")
        return 0
    wanted = {FOLDER / "rules.yaml": rules(), FOLDER / "tests.yaml": tests()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv and stale:
        print(
            "stale:", ", ".join(path.name for path in stale), "; run: python scripts/write_alerts.py", file=sys.stderr
        )
        return 1
    for path in stale:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
