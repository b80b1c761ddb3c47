"""Log lines of the processes that run handlers."""

import logging
import sys

from holdfast.instrument.logs import quieten
from holdfast.services.context import JobLogFilter


def log_to_stderr(level: int | str) -> None:
    """Log to standard error; each line names the run that it belongs to."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(JobLogFilter())
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(job)s%(message)s", handlers=[handler])
    quieten()
