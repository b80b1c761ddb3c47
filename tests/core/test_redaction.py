"""What is not shown of a text: values under names of secrets, and what looks like one."""

import pytest

from holdfast.core.redaction import MASK, redact_text


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2", "PASSWORD: hunter2", "db_password = 'hunter2'", '{"api_key": "hunter2", "n": 1}',
        "X-Api-Key: hunter2", "Authorization: Bearer hunter2", "client-secret=hunter2&x=1", "refresh_token='hunter2'",
        "postgresql://app:hunter2@db:5432/x", "eyJhbGciOiJI.hunter2.x", "at https://hooks.slack.com/services/T0/B0/hunter2",
        "ghp_hunter2hunter2", "sb_secret_hunter2hunter2", "host=db password=hunter2 user=app",
    ],
)  # fmt: skip
def test_a_secret_in_a_text_is_not_shown(text: str) -> None:
    assert "hunter2" not in redact_text(text)
    assert MASK in redact_text(text)


@pytest.mark.parametrize(
    "text", ["order 17 is closed", "KeyError: 'token'", "https://example.org/a:b", "the token expired"]
)
def test_what_is_none_is_shown_as_it_is(text: str) -> None:
    assert redact_text(text) == text


def test_further_names_are_hidden_too() -> None:
    assert redact_text("pin=1234, n=1", ["pin"]) == f"pin={MASK}, n=1"


@pytest.mark.parametrize("part", ["password", "a-", "token=", "://a:", "eyJ", "secret '", "- "])
def test_a_text_that_is_made_to_be_slow_to_read_is_not(part: str) -> None:
    assert redact_text(part * (65_536 // len(part)))
