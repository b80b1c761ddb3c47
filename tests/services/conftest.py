"""An application, and a network that can fail, for tests of running services."""

from collections.abc import AsyncIterator

import pytest

from holdfast import Holdfast
from tests.services.helpers import Relay, app_on, relay_to


@pytest.fixture
async def hf(database: str) -> AsyncIterator[Holdfast]:
    async with app_on(database) as app:
        yield app


@pytest.fixture
async def relay(database: str) -> AsyncIterator[Relay]:
    """Its `dsn` is this test's database, behind it."""
    async with relay_to(database) as running:
        yield running
