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
