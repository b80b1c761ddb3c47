"""`holdfast dlq move`: everything, when it is meant, followed to its end."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.command import holdfast_here as holdfast
from tests.services import test_mover
from tests.services.test_mover import Place, letters
from tests.support import Session

place = test_mover.place


async def test_a_queue_is_moved_when_it_is_meant(
    database: str, conn: Session, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.cli.moving.EVERY", 0.01)
    name = place.dead.rpartition("/")[2]
    where = {"DATABASE_URL": database, "HOLDFAST_DLQ_URLS": place.dead}

    async def move(*words: str) -> tuple[str, str, int]:
        said = await asyncio.to_thread(lambda: holdfast("dlq", "move", *words, cwd=tmp_path, **where))
        return said.out, said.err, said.code

    assert "'nobody' is no dead-letter queue that is watched here: those are" in (await move("nobody"))[1]
    assert (await move(name))[0] == f"0 messages of {name}, seen or not, to where they came from\n"
    await place.sqs.send(place.dead, letters(3))
    assert "3 messages" in (await move(name, "--dry-run"))[0]
    assert "add --yes to do it" in (await move(name))[1]
    out, _, code = await move(name, "--yes")
    assert code == 1
    assert "say so: --to QUEUE" in out
    out, err, code = await move(name, "--to", place.source.rpartition("/")[2], "--yes", "--json")
    assert (code, err) == (0, "")
    assert (json.loads(out)["status"], json.loads(out)["moved"]) == ("COMPLETED", 3)
    assert (await move(name, "--cancel"))[2] == 1
