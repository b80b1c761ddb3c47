"""What is said about a connection string never holds its password."""

import traceback

import pytest

from holdfast.errors import ConfigurationError
from holdfast.postgres import dsn


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:S3/CRET@127.0.0.1/db",
        "postgresql://user:S3@CRET@127.0.0.1:1/db",
        "postgresql+psycopg://user:S3CRET@host/db",
        "S3CRET",
    ],
)
def test_a_string_that_cannot_be_read_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        dsn.parse(text)
    told = "".join(traceback.format_exception(refused.value))
    assert "DATABASE_URL" in str(refused.value)
    assert "CRET" not in told


def test_a_readable_one_is_shown_without_its_password() -> None:
    shown = dsn.shown("postgresql://user:s3cret@db.example.org:5433/jobs")
    assert shown == "database 'jobs' at db.example.org:5433"


@pytest.mark.parametrize(("hosts", "port"), [("host:99999", "99999"), ("host:0", "0"), ("one:5432,two:65536", "65536")])
def test_a_port_that_nobody_can_listen_on_is_refused_with_its_value(hosts: str, port: str) -> None:
    with pytest.raises(ConfigurationError, match=f"names port {port}; a port lies between 1 and 65535"):
        dsn.parse(f"postgresql://user@{hosts}/db")
