"""What checks are given: the ways to a deployment, and what it should look like from here."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from pydantic import SecretStr

from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.migrator import Target
from holdfast.services.restarts import Here
from holdfast.services.sqs_watch import WatchedQueue


@dataclass(frozen=True)
class Patience:
    """How long is waited for what others do, in seconds.

    `canary`: until a job has ended; `notice`: until a death was told, which is looked for each 15 s, among what is 15 s
    old; `counts`: until processes have told the ledger what they decided in memory, which they do each second.
    """

    canary: float = 15.0
    notice: float = 90.0
    counts: float = 3.0


@dataclass(frozen=True)
class Deployment:
    """A running deployment. `token` is a key of the user's, who may have none; `canary` one made to be used up here.

    `detour`: why the ledger is reached over HTTPS and not over a connection. `target` and `https`: every way to it.
    """

    dsn: str
    where: str
    ledger: AsyncLedger
    http: httpx.AsyncClient
    here: Here
    stale_after: float
    queues: Sequence[WatchedQueue] = ()
    slack: SecretStr | None = None
    send_test: bool = False
    e2e: bool = False
    drain_timeout: float = 30.0
    termination_grace: float | None = None
    token: str | None = None
    detour: str = ""
    target: Target | None = None
    https: str | None = None
    canary: str | None = None
    patience: Patience = field(default_factory=Patience)

    @property
    def authorisation(self) -> dict[str, str]:
        """The header fields of a request that may look."""
        return bearer(self.token or self.canary)


def bearer(token: str | None) -> dict[str, str]:
    """The header fields of a request with this key."""
    return {"Authorization": f"Bearer {token}"} if token else {}
