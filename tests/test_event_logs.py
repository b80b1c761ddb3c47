"""Events as log lines."""

import logging

import pytest

from holdfast.events import LedgerLost, QueueLost
from holdfast.instrument.logs import LogSink


def test_what_fails_again_and_again_is_a_line_each_half_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    sink = LogSink(logging.getLogger("of.the.test"), clock=lambda: now)
    with caplog.at_level(logging.INFO, "of.the.test"):
        for second in range(70):
            now = float(second)
            sink.emit(LedgerLost("sweep", "gone"))
        sink.emit(LedgerLost("claim", "gone"))
        sink.emit(QueueLost("sweep", "gone"))
    assert caplog.messages == [
        "ledger_lost what=sweep error=gone",
        "ledger_lost what=sweep error=gone untold=29",
        "ledger_lost what=sweep error=gone untold=29",
        "ledger_lost what=claim error=gone",
        "queue_lost what=sweep error=gone",
    ]
