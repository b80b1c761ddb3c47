"""A shop's jobs for the dashboard to show: made with the protocol's own calls, the same at every run."""

import math
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from holdfast.app import new_id
from tests.support import Session, claim, clock, enqueue, mark_gone, progress, register, row, settle

KINDS = ("mail.send", "payment.capture", "report.build", "image.resize")
QUEUES = {"mail.send": "mail", "payment.capture": "payments", "report.build": "reports", "image.resize": "images"}
DECLINED = {
    "type": "PaymentDeclined",
    "message": "card of order 7411 declined: insufficient funds",
    "traceback": 'Traceback (most recent call last):\n  File "/srv/shop/payments.py", line 41, in capture\n'
    '    raise PaymentDeclined(f"card of order {order} declined: {reason}")\n'
    "shop.payments.PaymentDeclined: card of order 7411 declined: insufficient funds",
}
CAUSE = "PaymentDeclined:70ab"
REFUSED = {"type": "SMTPServerDisconnected", "message": "connection to smtp.example.org was closed", "traceback": None}


class Shop:
    """What was made; `jobs` by what they are there for."""

    def __init__(self, conn: Session) -> None:
        self.conn = conn
        self.dsn = ""
        self.jobs: dict[str, UUID] = {}
        kinds = list(KINDS)
        common = {"kinds": kinds, "queues": sorted(QUEUES.values()), "lost_after": 86_400, "version": "0.1.0"}
        self.workers = [
            register(conn, new_id(), host=f"shop-{number}", pid=400 + number, slots=10, **common)
            for number in (1, 2, 3)
        ]
        lost = register(conn, new_id(), host="shop-4", pid=404, slots=10, **common)
        mark_gone(conn, lost)

    def fill(self) -> "Shop":
        """All of it."""
        self._succeed()
        self._die()
        self._run()
        self._wait()
        self._count()
        self._schedule()
        self._sweep()
        return self

    def enqueue(self, kind: str, args: dict[str, Any], **opts: Any) -> UUID:
        return enqueue(self.conn, id=new_id(), queue=QUEUES[kind], kind=kind, args=args, **opts)

    def claim(self, kind: str, worker: int = 0) -> dict[str, Any]:
        (run,) = claim(self.conn, self.workers[worker], 1, queues=[QUEUES[kind]], kinds=[kind])
        return run

    def _succeed(self) -> None:
        for number in range(12):
            args = {"to": f"customer{number}@example.org", "template": "receipt", "order": 7400 + number}
            id = self.enqueue("mail.send", args)
            settle(self.conn, self.workers[0], self.claim("mail.send"), result={"message_id": f"m-{number}"})
            self.jobs["succeeded"] = id

    def _die(self) -> None:
        for number in range(6):
            args = {"order": 7411 + number, "amount": 49.9, "card_token": "tok_4242", "customer": {"plan": "pro"}}
            self.jobs["dead"] = self.enqueue("payment.capture", args, max_attempts=2)
            worker = self.workers[number % 2]
            (run,) = claim(self.conn, worker, 1, queues=["payments"], kinds=["payment.capture"])
            settle(self.conn, worker, run, "fail", error=DECLINED, delay=timedelta(0), fingerprint=CAUSE)
            (run,) = claim(self.conn, worker, 1, queues=["payments"], kinds=["payment.capture"])
            settle(self.conn, worker, run, "fail", error=DECLINED, fingerprint=CAUSE)
        for number in range(2):
            self.enqueue("mail.send", {"to": f"lost{number}@example.org"}, max_attempts=1)
            run = self.claim("mail.send")
            settle(self.conn, self.workers[0], run, "fail", error=REFUSED, fingerprint="SMTPServerDisconnected:19cf")
        now = clock(self.conn)
        self.conn.execute(
            "INSERT INTO holdfast.dead_letters (id, source, queue, key, job_id, kind, cause, fingerprint, received,"
            " sent_at, first_seen_at, last_seen_at) SELECT gen_random_uuid(), 'job', j.queue, j.id || ':' || j.lease,"
            " j.id::text, j.kind, j.error ->> 'type', j.fingerprint, j.attempts, j.finished_at, %s, %s"
            " FROM holdfast.jobs j WHERE j.status = 'dead'",
            (now, now),
        )

        some = "SELECT id FROM holdfast.dead_letters WHERE kind = 'payment.capture' LIMIT 1"
        self.jobs["letter"] = row(self.conn, some)["id"]
        self.jobs["incident"] = new_id()
        self.conn.execute(
            "INSERT INTO holdfast.incidents (id, kind, key, title, arrivals, opened_at, changed_at)"
            " VALUES (%s, 'dead_letters', %s, %s, 6, %s, %s)",
            (self.jobs["incident"], CAUSE, "6 jobs of payment.capture went dead on payments", now, now),
        )

    def _run(self) -> None:
        for month in ("2026-09", "2026-10"):
            self.jobs["running"] = self.enqueue("report.build", {"month": month, "format": "pdf"}, timeout=3600)
            run = self.claim("report.build", 1)
            progress(self.conn, self.workers[1], run, report={"page": 18, "of": 40})
        self.enqueue("image.resize", {"image": "s3://shop/7411.png", "width": 640})
        self.claim("image.resize", 2)

    def _wait(self) -> None:
        for number in range(7):
            self.jobs["queued"] = self.enqueue("image.resize", {"image": f"s3://shop/{number}.png", "width": 320})
        later = clock(self.conn) + timedelta(hours=3)
        self.jobs["later"] = self.enqueue("report.build", {"month": "2026-11"}, run_at=later, unique_key="2026-11")

    def _count(self) -> None:
        """A week of minutes, as workers would have told: a daily wave, and an hour of trouble."""
        now = clock(self.conn).replace(second=0, microsecond=0)
        rows = []
        for back in [*range(60), *range(60, 7 * 1440, 20)]:
            at = now - timedelta(minutes=back)
            rows += _minute(at, back)
        with self.conn.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO holdfast.job_stats (minute, queue, kind, succeeded, failed, dead, waited, ran, waits,"
                " runs, last_at) VALUES (%s, %s, %s, %s, %s, %s, 1, 1, %s, %s, %s)",
                rows,
            )

    def _schedule(self) -> None:
        now = clock(self.conn)
        for name, cron, zone, paused in (
            ("daily report", "30 7 * * MON-FRI", "Europe/Berlin", False),
            ("clean carts", "*/15 * * * *", "UTC", True),
        ):
            self.conn.execute(
                "INSERT INTO holdfast.schedules (name, cron, time_zone, queue, kind, args, overlap, paused, next_at,"
                " last_at, last_result, declared_at, created_at) VALUES (%s, %s, %s,"
                " 'reports', 'report.build', %s, false, %s, %s, %s, 'enqueued', %s, %s)",
                (name, cron, zone, Jsonb({"month": "last"}), paused, now + timedelta(minutes=9), now, now, now),
            )

    def _sweep(self) -> None:
        self.conn.execute("UPDATE holdfast.monitors SET swept_at = holdfast.clock(), every = interval '1 hour'")


def _minute(at: datetime, back: int) -> list[tuple[Any, ...]]:
    wave = 1.3 + math.sin((at.hour * 60 + at.minute) / 1440 * 2 * math.pi) * 0.5 + math.sin(back * 1.7) * 0.18
    trouble = 9 if 18 <= back <= 26 else 0
    counts = [0] * 19
    counts[6], counts[8] = 30, 4
    made = [("mail", "mail.send", 34, trouble // 4, 0), ("payments", "payment.capture", 12, trouble, trouble // 3)]
    return [
        (at, queue, kind, int(many * wave), failed, dead, counts, counts, at)
        for queue, kind, many, failed, dead in made
    ]


def status_of(conn: Session, id: UUID) -> str:
    found: str = row(conn, "SELECT status FROM holdfast.jobs WHERE id = %s", id)["status"]
    return found
