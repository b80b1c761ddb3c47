"""Messages of programs that nobody here knows, read as far as they say something."""

import base64
import json

import pytest

from holdfast.core.letters import describe


@pytest.mark.parametrize(
    ("body", "attributes", "kind", "cause", "job_id"),
    [
        ({"type": "ship", "job_id": "j-1", "errorType": "Timeout"}, {}, "ship", "Timeout", "j-1"),
        ({"headers": {"task": "app.send"}, "body": "W10="}, {}, "app.send", "", None),
        (
            {"detail-type": "OrderPlaced"},
            {"ERROR_CODE": "429", "ERROR_MESSAGE": "slow down"},
            "OrderPlaced",
            "429",
            None,
        ),
        ({"error": {"type": "ValueError", "message": "no"}, "kind": "x"}, {}, "x", "ValueError", None),
        ({"jobId": 17, "event": "e"}, {}, "e", "", "17"),
        ([1, 2], {"job_type": "resize"}, "resize", "", None),
    ],
)
def test_the_usual_names_are_found(
    body: object, attributes: dict[str, str], kind: str, cause: str, job_id: str | None
) -> None:
    letter = describe("orders-dlq", json.dumps(body), attributes)
    assert (letter.kind, letter.cause, letter.job_id) == (kind, cause, job_id)


def test_what_celery_sends_over_sqs_is_read() -> None:
    """The body of a message of Celery 5.7 over SQS: JSON with its headers, in base64."""
    message = {
        "body": "W1sxXSwge30sIHsiY2FsbGJhY2tzIjogbnVsbH1d",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": "shop.send_invoice", "id": "63f47843-bdbd-4bc7-8d52-7d7ee93f2f15"},
        "properties": {"correlation_id": "63f47843-bdbd-4bc7-8d52-7d7ee93f2f15"},
    }
    letter = describe("celery-dlq", base64.b64encode(json.dumps(message).encode()).decode(), {})
    assert (letter.kind, letter.job_id) == ("shop.send_invoice", "63f47843-bdbd-4bc7-8d52-7d7ee93f2f15")


@pytest.mark.parametrize(
    "body", ["", "not json", "\x00\xff", "[" * 100_000, '"text"', "null", '{"type": ""}', "abcd", "////"]
)
def test_what_says_nothing_has_a_fingerprint_all_the_same(body: str) -> None:
    assert describe("q", body, {}).fingerprint == describe("q", "other", {}).fingerprint


def test_letters_of_one_cause_share_a_fingerprint_and_others_do_not() -> None:
    def of(queue: str, **fields: object) -> str:
        return describe(queue, json.dumps({"type": "ship", "error_type": "Timeout", **fields}), {}).fingerprint

    assert of("a", error_message="order 17 timed out") == of("a", error_message="order 99 timed out")
    assert len({of("a"), of("b"), of("a", type="bill"), of("a", error_type="KeyError")}) == 4


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Ada Lovelace"},
        {"name": "Ada"},
        {"type": "a\x1b[31m"},
        {"type": "x" * 500},
        {"type": "card 4111 1111 1111 1111"},
        {"type": "4111111111111111"},
        {"event": "user ada@example.org signed up"},
        {"job_id": "token=hunter2"},
        {"type": "<!channel>"},
    ],
)
def test_only_what_looks_like_a_name_in_a_program_is_read(body: object) -> None:
    letter = describe("q", json.dumps(body), {})
    assert (letter.kind, letter.cause, letter.job_id) == ("", "", None)


def test_of_an_error_its_class_is_read_and_not_what_it_quotes() -> None:
    letter = describe("q", json.dumps({"exception": "AuthError: password=hunter2"}), {})
    assert letter.cause == "AuthError"


def test_what_says_which_job_it_is_about_can_be_named() -> None:
    body = json.dumps({"job_id": "7", "order": {"no": 1}, "order_no": 4711})
    assert describe("q", body, {}).job_id == "7"
    assert describe("q", body, {}, "order_no").job_id == "4711"
    assert describe("q", body, {"trace": "t-1"}, "trace").job_id == "t-1"
    assert describe("q", body, {}, "nothing").job_id is None, "another name is not guessed"
