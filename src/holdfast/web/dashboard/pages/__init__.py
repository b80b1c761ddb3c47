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
    sign_in,
    system,
    workers,
)


def routers() -> list[APIRouter]:
    """All of them."""
    return [
        each.router
        for each in (
            sign_in,
            home,
            jobs,
            job,
            letters,
            incidents,
            queues,
            workers,
            periodic,
            limits,
            operations,
            audit,
            system,
        )
    ]
