"""The probe server's answers, from what a supervisor knows of its processes."""

from collections.abc import Sequence

import httpx
import pytest

from holdfast.core.liveness import ProcessState
from holdfast.web.probes import Probes, Service

WORKS = ProcessState("worker-1", 7, alive_for=90_000.0, heard_ago=0.1, progress_ago=0.5)
#: A timer thread of the process still ticks, and so it is heard.
WEDGED = ProcessState("worker-1", 7, alive_for=90_000.0, heard_ago=0.1, progress_ago=75.0)
WITHOUT_LEDGER = ProcessState("worker-1", 7, alive_for=600.0, heard_ago=0.1, progress_ago=14.0)
BEGINS = ProcessState("worker-1", 7, alive_for=2.0, heard_ago=2.0, progress_ago=2.0, has_begun=False)
QUARANTINE = ProcessState("quarantine", 8, 1.0, 0.1, 0.1, is_on_demand=True)


async def answers(processes: Sequence[ProcessState], *, stopping: bool = False) -> list[int]:
    """What /livez, /startupz and /readyz answer, of a service with one process to keep alive."""
    app = Probes(Service(lambda: processes, 1, lambda: stopping))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        return [(await client.get(path)).status_code for path in ("/livez", "/startupz", "/readyz")]


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([WORKS], [200, 200, 200]),
        ([WITHOUT_LEDGER], [200, 200, 200]),
        ([WEDGED], [503, 200, 200]),
        ([BEGINS], [200, 503, 503]),
        ([], [200, 503, 503]),
        ([QUARANTINE], [200, 503, 503]),
        ([WORKS, QUARANTINE], [200, 200, 200]),
    ],
    ids=["works", "outage", "wedged", "begins", "none yet", "quarantine only", "and quarantine"],
)
async def test_each_probe_means_one_thing(processes: Sequence[ProcessState], expected: list[int]) -> None:
    assert await answers(processes) == expected


async def test_a_service_that_stops_is_alive_and_not_ready() -> None:
    assert await answers([WORKS], stopping=True) == [200, 200, 503]
