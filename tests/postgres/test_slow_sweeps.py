"""A monitor that sweeps rarely, say each minute from cron, must still get somewhere; bad policy numbers are named."""

from datetime import timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support import Session, advance, claim_one, enqueue, job, register, rescue, sweep_workers

MINUTE = timedelta(minutes=1)


def test_sweeps_a_minute_apart_rescue_the_jobs_of_a_silent_worker_within_two_of_them(conn: Session) -> None:
    worker_id = register(conn)
    job_id = enqueue(conn)
    claim_one(conn, worker_id)
    verdicts = []
    for _ in range(4):
        advance(conn, MINUTE)
        verdicts.append(sweep_workers(conn).get(worker_id, {}).get("verdict"))
        rescue(conn)
    assert verdicts[:2] == ["held", "gone"]
    assert job(conn, job_id)["status"] == "queued"


def test_a_single_pause_of_regular_sweeps_holds(conn: Session) -> None:
    worker_id = register(conn)
    for _ in range(3):
        advance(conn, timedelta(seconds=5))
        sweep_workers(conn)
    advance(conn, MINUTE)
    assert sweep_workers(conn)[worker_id]["verdict"] == "held"


def test_a_policy_number_out_of_range_is_named(conn: Session) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="policy number 3 is out of range"):
        conn.execute(
            "SELECT * FROM holdfast.enqueue_many(ARRAY[gen_random_uuid()], ARRAY['q'], ARRAY['k'], ARRAY['{}'::jsonb],"
            " policies => ARRAY[3], opts => %s)",
            (Jsonb({"policies": [{}, {}]}),),
        )


@pytest.mark.parametrize("policy", [{"timeout": 9e12}, {"timeout": 0}, {"silent_after": -1}, {"max_attempts": 0}])
def test_a_policy_that_would_make_its_row_unreadable_or_senseless_is_refused(
    conn: Session, policy: dict[str, float]
) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="is out of range"):
        enqueue(conn, **policy)


def test_arguments_are_measured_as_text_and_not_as_they_are_stored(conn: Session) -> None:
    enqueue(conn, args={"numbers": [1] * 200_000})
