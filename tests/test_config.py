"""Settings: where they come from, which source wins, and errors that help without telling secrets."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from holdfast import Holdfast
from holdfast.config import Settings, load_settings
from holdfast.core.lease import LeaseTimings
from holdfast.errors import ConfigurationError

SECRET = "xyzzy-plugh"
URL = f"postgresql://ann:{SECRET}@db.example/jobs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def load(folder: Path, environment: dict[str, str] | None = None, **given: Any) -> Settings:
    return load_settings(environment=environment or {}, folder=folder, **given)


def url_of(settings: Settings) -> str | None:
    return None if settings.database_url is None else settings.database_url.get_secret_value()


# Precedence

SOURCES = ["holdfast.toml", ".env", "environment", "argument"]


@pytest.mark.parametrize(
    ("weaker", "stronger"), list(itertools.combinations(range(4), 2)), ids=lambda place: SOURCES[place]
)
def test_arguments_win_over_the_environment_over_env_file_over_toml(folder: Path, weaker: int, stronger: int) -> None:
    environment: dict[str, str] = {}
    given: dict[str, Any] = {}
    for value, place in ((11, weaker), (22, stronger)):
        match SOURCES[place]:
            case "holdfast.toml":
                (folder / "holdfast.toml").write_text(f"slots = {value}\n")
            case ".env":
                (folder / ".env").write_text(f"HOLDFAST_SLOTS={value}\n")
            case "environment":
                environment["HOLDFAST_SLOTS"] = str(value)
            case _:
                given["slots"] = value
    assert load(folder, environment, **given).slots == 22


def test_each_setting_has_its_own_strongest_source(folder: Path) -> None:
    (folder / "holdfast.toml").write_text('slots = 1\npoll = 2.5\nqueues = ["a", "b"]\napp = "toml:hf"\n')
    (folder / ".env").write_text("HOLDFAST_SLOTS=2\nHOLDFAST_PORT=1234\nUNRELATED=x\n")
    settings = load(folder, {"HOLDFAST_SLOTS": "3", "HOLDFAST_LOG_LEVEL": "debug", "PATH": "/bin"}, app="given:hf")
    assert (settings.slots, settings.poll, settings.queues, settings.port, settings.log_level, settings.app) == (
        3, 2.5, ("a", "b"), 1234, "debug", "given:hf",
    )  # fmt: skip


def test_an_argument_that_is_none_was_not_given(folder: Path) -> None:
    assert load(folder, {"HOLDFAST_SLOTS": "3"}, slots=None).slots == 3


def test_an_empty_variable_was_not_given(folder: Path) -> None:
    settings = load(folder, {"HOLDFAST_SLOTS": "", "HOLDFAST_DATABASE_URL": "", "DATABASE_URL": ""})
    assert (settings.slots, settings.database_url) == (10, None)


def test_without_any_source_the_defaults_hold(folder: Path) -> None:
    assert load(folder) == Settings()


def test_the_process_s_environment_and_folder_are_read_when_none_is_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("HOLDFAST_PORT=4321\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOLDFAST_SLOTS", "9")
    settings = load_settings()
    assert (settings.slots, settings.port) == (9, 4321)


def test_database_url_is_read_under_the_name_that_backends_have(folder: Path) -> None:
    assert url_of(load(folder, {"DATABASE_URL": URL})) == URL


def test_our_own_name_wins_over_the_common_one(folder: Path) -> None:
    both = {"DATABASE_URL": "postgresql://other/jobs", "HOLDFAST_DATABASE_URL": URL}
    assert url_of(load(folder, both)) == URL
    assert url_of(load(folder, dict(reversed(both.items())))) == URL


def test_a_dollar_in_a_password_of_the_env_file_stays_a_dollar(folder: Path) -> None:
    (folder / ".env").write_text("DATABASE_URL='postgresql://a:x$HOME${PATH}@h/d'\n")
    assert url_of(load(folder)) == "postgresql://a:x$HOME${PATH}@h/d"


def test_queues_are_separated_by_commas(folder: Path) -> None:
    assert load(folder, {"HOLDFAST_QUEUES": " mail, report ,,slow"}).queues == ("mail", "report", "slow")


def test_names_passed_between_our_own_processes_are_no_settings(folder: Path) -> None:
    load(folder, {"HOLDFAST_CHILD": "{}"})


# Errors


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HOLDFAST_SLOT", "HOLDFAST_SLOTS"),
        ("HOLDFAST_DATABASEURL", "HOLDFAST_DATABASE_URL"),
        ("HOLDFAST_QUEUE", "HOLDFAST_QUEUES"),
    ],
)
@pytest.mark.parametrize("source", ["environment", ".env"])
def test_an_unknown_variable_is_refused_with_what_was_meant(folder: Path, name: str, meant: str, source: str) -> None:
    environment = {name: SECRET} if source == "environment" else {}
    if source == ".env":
        (folder / ".env").write_text(f"{name}={SECRET}\n")
    with pytest.raises(
        ConfigurationError, match=f"unknown setting {name} in .*{source}; did you mean {meant}"
    ) as caught:
        load(folder, environment)
    assert SECRET not in str(caught.value)


def test_an_unknown_key_in_toml_is_refused_with_what_was_meant(folder: Path) -> None:
    (folder / "holdfast.toml").write_text("slotz = 3\n")
    with pytest.raises(ConfigurationError, match=r"unknown setting slotz in holdfast\.toml; did you mean slots\?"):
        load(folder)


@pytest.mark.parametrize("source", ["environment", "holdfast.toml"])
def test_an_unknown_name_that_is_like_no_other_is_refused_too(folder: Path, source: str) -> None:
    environment = {"HOLDFAST_QWXZ": "1"} if source == "environment" else {}
    if source == "holdfast.toml":
        (folder / "holdfast.toml").write_text("[qwxz]\na = 1\n")
    with pytest.raises(ConfigurationError, match=r"(?i)unknown setting .*qwxz in .*; see the list of settings"):
        load(folder, environment)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HOLDFAST_SLOTS": "many"}, r"setting slots from the environment: .*valid integer.*, got 'many'"),
        ({"HOLDFAST_SLOTS": "0"}, r"setting slots from the environment: .*greater than or equal to 1, got '0'"),
        ({"HOLDFAST_PORT": "70000"}, r"setting port from .*less than or equal to 65535"),
        ({"HOLDFAST_LOG_LEVEL": "loud"}, r"setting log_level from .*'debug', 'info', 'warning' or 'error', got 'loud'"),
        ({"HOLDFAST_BEAT_INTERVAL": "-1"}, r"setting beat_interval from .*greater than 0"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_name_source_and_value(
    folder: Path, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(folder, environment)


@pytest.mark.parametrize("port", ["99999", "0", "abc"])
@pytest.mark.parametrize("name", ["SUPABASE_URL", "HOLDFAST_URL", "HOLDFAST_SUPABASE_API_URL"])
def test_an_address_whose_port_cannot_be_is_refused_by_its_name(folder: Path, name: str, port: str) -> None:
    with pytest.raises(ConfigurationError, match="its port must be a number from 1 to 65535") as refused:
        load(folder, {name: f"https://example.org:{port}"})
    assert f":{port}" in str(refused.value)


def test_a_wrong_value_names_the_file_it_came_from(folder: Path) -> None:
    (folder / "holdfast.toml").write_text('slots = "lots"\n')
    with pytest.raises(ConfigurationError, match=r"setting slots from holdfast\.toml"):
        load(folder)
    with pytest.raises(ConfigurationError, match="setting slots from the command line"):
        load(folder, slots="lots")


def test_a_url_that_is_none_is_told_as_the_program_s_own_argument() -> None:
    wrong: Any = 3
    with pytest.raises(ConfigurationError, match=r"setting database_url from Holdfast\(\.\.\.\): .* of type int"):
        Holdfast(wrong).settings  # noqa: B018


def test_a_file_that_is_not_toml_is_refused_with_its_path(folder: Path) -> None:
    (folder / "holdfast.toml").write_text(f'database_url = "{URL}\n')
    with pytest.raises(ConfigurationError, match=r"holdfast\.toml is not TOML: .*line 1") as caught:
        load(folder)
    assert SECRET not in str(caught.value)


# Secrets


def test_a_password_is_in_no_text_of_the_settings(folder: Path) -> None:
    settings = load(folder, {"DATABASE_URL": URL})
    for text in (repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in text


def test_a_password_is_in_no_error(folder: Path) -> None:
    (folder / "holdfast.toml").write_text(f'database_url = ["{URL}"]\n')
    with pytest.raises(ConfigurationError, match=r"setting database_url .*\(hidden, of type list\)") as caught:
        load(folder)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_settings_can_not_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        Settings().slots = 3  # type: ignore[misc]


# Contradictions


@pytest.mark.parametrize(
    ("environment", "advice"),
    [
        ({"HOLDFAST_BEAT_INTERVAL": "10"}, r"lost_after is 25 s and beat_interval 10 s: .* at least 30 s"),
        ({"HOLDFAST_LOST_AFTER": "14"}, r"lost_after is 14 s and beat_interval 5 s: .* at least 15 s"),
        ({"HOLDFAST_STALE_AFTER": "74"}, r"stale_after is 74 s and lost_after 25 s: .* at least 75 s"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_the_way_out(
    folder: Path, environment: dict[str, str], advice: str
) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        load(folder, environment)


def test_settings_reach_the_worker(folder: Path) -> None:
    settings = load(
        folder, queues="a,b", slots=3, poll=2, drain_timeout=4, beat_interval=1, lost_after=6, stale_after=18,
        sweep_interval=7,
    )  # fmt: skip
    worker = settings.worker_settings(quarantine=True)
    assert (worker.queues, worker.slots, worker.poll, worker.drain_timeout) == (("a", "b"), 3, 2, 4)
    assert worker.timings == LeaseTimings(beat_interval=1, lost_after=6)
    assert (worker.stale_after, worker.sweep_interval, worker.quarantine) == (18, 7, True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"slots": 0}, "slots is 0; a worker needs at least 1"), ({"queues": ()}, "a worker needs at least one queue")],
)
def test_a_worker_without_slots_or_queues_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Settings().worker_settings(**wrong)


def test_the_example_file_with_every_line_in_force_says_the_defaults(folder: Path) -> None:
    text = (Path(__file__).parent.parent / ".env.example").read_text()
    lines = [
        line.removeprefix("#")
        for line in text.splitlines()
        if line.startswith("#") and line[1:].partition("=")[0].isupper()
    ]
    assert len(lines) == len(Settings.model_fields)
    (folder / ".env").write_text("\n".join(lines))
    assert load(folder) == Settings()


def test_a_drain_that_the_platform_would_cut_short_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"drain_timeout is 30 s and termination_grace 30 s.*at least 38 s"):
        load(folder, {"HOLDFAST_TERMINATION_GRACE": "30"})
    assert load(folder, {"HOLDFAST_TERMINATION_GRACE": "38"}).termination_grace == 38
    assert load(folder, {"HOLDFAST_TERMINATION_GRACE": "30", "HOLDFAST_DRAIN_TIMEOUT": "20"}).drain_timeout == 20


@pytest.mark.parametrize("name", ["holdfast.toml", ".env"])
def test_a_file_that_is_no_text_or_no_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"slots = 1 # \xff")
    with pytest.raises(ConfigurationError, match=f"{name} is not (TOML|UTF-8)"):
        load(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ConfigurationError, match=f"{name} cannot be read: Is a directory"):
        load(folder)


PROJECT = {"SUPABASE_URL": "https://abcdefghijklmnopqrst.supabase.co", "SUPABASE_SERVICE_KEY": "sb_secret_x"}


@pytest.mark.parametrize(
    "of_the_project",
    [
        "postgresql://postgres:x@db.abcdefghijklmnopqrst.supabase.co/postgres",
        "postgresql://postgres.abcdefghijklmnopqrst:x@aws-0-eu-central-1.pooler.supabase.com:6543/postgres",
    ],
)
def test_a_project_is_another_way_to_its_own_database(folder: Path, of_the_project: str) -> None:
    assert load(folder, {**PROJECT, "DATABASE_URL": of_the_project}).https_ledger is not None


@pytest.mark.parametrize(
    "another",
    [
        "postgresql://postgres@localhost:5432/app",
        "host=db.example.org dbname=app",
        f"postgresql://postgres:x@db.{'z' * 20}.supabase.co/postgres",
    ],
)
def test_a_project_takes_the_place_of_no_other_database(folder: Path, another: str) -> None:
    assert load(folder, {**PROJECT, "DATABASE_URL": another}).https_ledger is None
    assert load(folder, PROJECT).https_ledger is not None
