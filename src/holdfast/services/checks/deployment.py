"""What checks are given: the ways to a deployment, and what it should look like from here."""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from holdfast.core.health import Report
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.restarts import Here
from holdfast.services.sqs_watch import WatchedQueue


@dataclass(frozen=True)
class Deployment:
    """A running deployment. `token` is a key that may look; None where none could be made."""

    dsn: str
    where: str
    ledger: AsyncLedger
    http: httpx.AsyncClient
    here: Here
    stale_after: float
    queues: Sequence[WatchedQueue] = ()
    slack: SecretStr | None = None
    send_test: bool = False
    token: str | None = None
    report: Report | None = None

    @property
    def authorisation(self) -> dict[str, str]:
        """The header fields of a request that may look."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}
