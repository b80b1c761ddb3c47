"""API keys: made, recognised, never guessed."""

import pytest

from holdfast.core.api_keys import hash_secret, is_secret, make_key, parse_key


def test_a_key_is_parsed_into_what_it_was_made_of() -> None:
    made = make_key(b"12345", bytes(range(32)))
    parsed = parse_key(made.token)
    assert parsed is not None
    id, secret = parsed
    assert id == made.id
    assert hash_secret(secret) == made.secret_hash
    assert is_secret(secret, made.secret_hash)
    assert not is_secret(secret[:-1] + "_", made.secret_hash)


@pytest.mark.parametrize(
    "token", ["", "hf_", "hf_aaaaaaaa_short", "HF_aaaaaaaa_" + "A" * 43, "hf_aaaaaaaa_" + "A" * 44]
)
def test_what_is_no_key_is_not_taken_for_one(token: str) -> None:
    assert parse_key(token) is None


def test_a_key_has_all_its_chance() -> None:
    with pytest.raises(ValueError, match="5 and 32 random bytes"):
        make_key(b"1234", bytes(32))
