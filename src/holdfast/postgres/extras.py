"""Optional parts of the installation, with the way out where one is missing."""

import importlib
from typing import Any

from holdfast.errors import ConfigurationError


def httpx_module(what: str) -> Any:
    """The HTTP client; whoever installed the library alone may not have it."""
    try:
        return importlib.import_module("httpx")
    except ModuleNotFoundError:
        raise ConfigurationError(f"{what} is asked over HTTPS, which needs: pip install 'holdfast[server]'") from None
