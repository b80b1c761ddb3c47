"""The pages, each with the actions on what it shows."""

from fastapi import APIRouter

from holdfast.web.dashboard.pages import (
    audit,
    home,
    incidents,
    job,
    jobs,
    letters,
    limits,
    operations,
    periodic,
    queues,
    redrives,
    sign_in,
    system,
    workers,
)


def routers() -> list[APIRouter]:
    """All of them."""
    everyday = (home, jobs, job, letters, redrives, incidents, queues, workers, periodic, limits)
    return [page.router for page in (sign_in, *everyday, operations, audit, system)]
