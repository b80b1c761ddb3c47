"""Every metric that Holdfast shows, defined once: exporters, the page docs/metrics.md and dashboards are made of these.

Names follow Prometheus: one prefix, base units, `_total` for counters. Cluster metrics are read from the ledger, so
every instance shows the same ones: scrape them from one. Process metrics are each process's own.

No label can grow without bound: of queues a hundred are shown, of pairs of queue and kind two hundred. No label is ever
the id of a job, a worker or a caller.
"""

from dataclasses import dataclass
from enum import StrEnum


class Type(StrEnum):
    """As in Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Scope(StrEnum):
    """Whether a metric tells of the whole deployment, of the API's process that shows it, or of the processes under the
    supervisor that shows it."""

    CLUSTER = "cluster"
    PROCESS = "process"
    SERVICE = "service"


@dataclass(frozen=True)
class Metric:
    """One definition. A counter's name is without its `_total`, which exporters add."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    scope: Scope = Scope.CLUSTER

    @property
    def shown_name(self) -> str:
        """The name as it is queried."""
        return f"{self.name}_total" if self.type is Type.COUNTER else self.name


def _cluster(name: str, help: str, *labels: str, type: Type = Type.GAUGE) -> Metric:
    return Metric(f"holdfast_{name}", type, help, labels)


def _process(name: str, help: str, *labels: str, type: Type = Type.GAUGE) -> Metric:
    return Metric(f"holdfast_{name}", type, help, labels, Scope.PROCESS)


def _service(name: str, help: str, *labels: str, type: Type = Type.GAUGE) -> Metric:
    return Metric(f"holdfast_{name}", type, help, labels, Scope.SERVICE)


LEDGER_UP = _cluster("ledger_up", "Whether the ledger was seen within the last 30 seconds.")
JOBS = _cluster("jobs", "Jobs that wait or run now; waiting ones are counted to a bound.", "queue", "status")
OLDEST_DUE = _cluster("queue_oldest_due_seconds", "How long the oldest due job of a queue waits; 0: none.", "queue")
LONGEST_RUN = _cluster("queue_longest_run_seconds", "How long the oldest run of a queue lasts; 0: none.", "queue")
LONGEST_SILENCE = _cluster(
    "queue_longest_silence_seconds", "Since the oldest sign of life of a running job; 0: none runs.", "queue"
)
QUEUE_PAUSED = _cluster("queue_paused", "Whether a queue is paused.", "queue")
STALE = _cluster("stale_jobs", "Running jobs that somebody must take back now, by reason.", "reason")
DEAD = _cluster("dead_jobs", "Dead jobs that are kept; counted to 1,000.")
LETTERS = _cluster(
    "dead_letter_messages", "Messages of a dead-letter queue of SQS, in it or captured; counted to 1,000.", "queue"
)
OLDEST_LETTER = _cluster(
    "dead_letter_oldest_seconds", "How long ago the oldest message of a dead-letter queue was sent.", "queue"
)
WORKERS = _cluster("workers", "Worker processes: busy, idle, or silent for longer than they may.", "state")
WORKERS_DRAINING = _cluster("workers_draining", "Worker processes that finish what they run and then end.")
WORKERS_LOST = _cluster("workers_lost", "Worker processes that died or fell silent within the last hour.")
LONGEST_LAG = _cluster("worker_longest_loop_lag_seconds", "How late the latest event loop of all workers is.")
SLOTS = _cluster("worker_slots", "Jobs that all live workers could run at a time.")
SETTLED = _cluster(
    "jobs_settled", "Runs that ended, by outcome: succeeded, failed (an attempt), dead, cancelled.",
    "queue", "kind", "outcome", type=Type.COUNTER,
)  # fmt: skip
WAIT = _cluster(
    "job_wait_seconds", "From when a job was due to its claim.", "queue", "kind", type=Type.HISTOGRAM
)  # fmt: skip
RUN = _cluster("job_run_seconds", "From a job's claim to the end of its run.", "queue", "kind", type=Type.HISTOGRAM)
EVENTS = _cluster(
    "job_events", "What happened to jobs besides their happy path.", "event", "reason", type=Type.COUNTER
)  # fmt: skip
FALSE_RESCUES = _cluster(
    "false_rescues",
    "Rescues that took a job from a run still to be trusted, by the ledger's timestamps; it should stay at 0.",
    type=Type.COUNTER,
)
FENCED = _cluster(
    "fenced_late_writes", "Runs that ended after their lease was lost, and were refused.", type=Type.COUNTER
)
SWEPT = _cluster("monitor_last_sweep_timestamp_seconds", "When a monitor swept last, by the ledger.", "monitor")
BRAKE = _cluster("brake_held", "Whether silent workers are not declared gone for now.")
INCIDENTS = _cluster("incidents_open", "Incidents that are open; counted to 20.")
NOTIFICATIONS = _cluster("notifications", "Notifications that wait to be delivered: new, or tried in vain.", "state")
LIMITS = _cluster(
    "rate_limit_decisions",
    "Decisions about requests, over all processes; the source memory decided without Postgres.",
    "policy", "source", "outcome", type=Type.COUNTER,
)  # fmt: skip
SCHEMA = _cluster(
    "schema_info", "The ledger's schema level, and that of this version; always 1.", "applied", "expected"
)
CONNECTIONS = _cluster("postgres_connections", "Connections of all clients.")
MAX_CONNECTIONS = _cluster("postgres_max_connections", "Connections that the server takes.")
OLDEST_TRANSACTION = _cluster(
    "postgres_oldest_transaction_seconds", "The oldest open transaction of all clients; long ones slow every queue."
)
REPLICATION_LAG = _cluster("postgres_replication_lag_seconds", "How far the slowest standby is behind; 0: none is.")
SQS = _cluster("sqs_messages", "Messages in a queue of SQS: visible, or in flight.", "queue", "role", "state")

BUILD = _process("build_info", "The version that runs; always 1.", "version")
LOOP_LAG = _process("event_loop_lag_seconds", "How late this process's event loop is.")
POOL = _process("pool_connections", "Connections for requests: taken or free.", "state")
POOL_WAITING = _process("pool_waiting", "Requests that wait for a connection.")
CHECK = _process("health_check_status", "1 pass, 0.5 warn, 0 fail.", "check")
LOOK_SECONDS = _process("health_look_seconds", "How long the last look at the ledger took.", "look")
LOOK_AGE = _process("health_look_age_seconds", "How long ago a look at the ledger came about.", "look")
DEGRADED = _process("rate_limit_degraded", "Whether this process decides without Postgres.")
INSTANCES = _process(
    "rate_limit_instances", "Limiting processes that lived when Postgres was last asked; the shares of an outage."
)
IDENTITIES = _process("rate_limit_identities", "Identities that this process remembers.")
DEBTORS = _process("rate_limit_debtors", "Identities that were admitted something that Postgres does not know of yet.")
FLIGHT = _process("rate_limit_flight_seconds", "The last 512 shared round trips: p50, p99.", "percentile")
ENQUEUED = _process(
    "jobs_enqueued", "Jobs that were written over HTTP, each once.", "queue", "kind", type=Type.COUNTER
)  # fmt: skip

SUPERVISED = _service("supervised_processes", "Processes that run under this supervisor.", "process")
PROGRESS_AGE = _service("supervised_progress_age_seconds", "How long ago a process's main loop turned last.", "process")
STARTS = _service("supervised_starts", "Processes that were started.", "process", type=Type.COUNTER)
DEATHS = _service("supervised_deaths", "Processes that ended unasked, or were killed.", "process", type=Type.COUNTER)
CLAIMED = _service(
    "jobs_claimed", "Jobs that were claimed, to run at once or soon.", "queue", "kind", type=Type.COUNTER
)
CLAIM = _service(
    "claim_seconds", "How long claims took; they are the first to grow where tables are bloated.", type=Type.HISTOGRAM
)
SENT = _service(
    "notifications_sent", "Posts to a channel, by outcome: delivered, or failed.", "channel", "outcome",
    type=Type.COUNTER,
)  # fmt: skip
DRAIN = _service("drain_seconds", "How long workers that were told to stop took to end.", type=Type.HISTOGRAM)
ABANDONED = _service(
    "jobs_abandoned", "Runs that had not ended when their worker's drain was over.", type=Type.COUNTER
)  # fmt: skip

ALL: tuple[Metric, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Metric))
