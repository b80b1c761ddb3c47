"""All settings: one object, from arguments, environment, `.env` and `holdfast.toml`, in this order of precedence.

Every setting is `HOLDFAST_<NAME>`. The names that such backends have already are read as well: `DATABASE_URL`.
"""

import difflib
import hashlib
import io
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from holdfast.core.bell import BellRoutes
from holdfast.core.health import Limits, parse_queue_limits
from holdfast.core.lease import LeaseTimings
from holdfast.core.ratelimit import Policy
from holdfast.core.ratelimit_fields import Dialect
from holdfast.core.watch import Watch, check_names, parse_watch
from holdfast.errors import ConfigurationError
from holdfast.notify.addresses import check_runbook, check_webhook
from holdfast.notify.several import Addresses
from holdfast.postgres.dsn import is_of_supabase, supabase_project
from holdfast.postgres.rest import rest_address
from holdfast.postgres.supabase import project_ref
from holdfast.services.supervisor import GRACE
from holdfast.services.worker import WorkerSettings
from holdfast.sqs.client import check_queue_url, queue_name

PREFIX = "HOLDFAST_"
TOML_FILE = "holdfast.toml"
ENV_FILE = ".env"
#: Ten years, in seconds.
LONGEST = 10 * 366 * 86400.0
#: Characters of a secret that tokens are signed with: as many bits as their hash has (RFC 7518, 3.2).
LEAST_SECRET = 32

#: Settings whose values are never shown.
SECRETS = frozenset(
    {
        "jwt_secret",
        "database_url",
        "api_key",
        "slack_webhook_url",
        "webhook_url",
        "webhook_secret",
        "pagerduty_key",
        "apprise_urls",
        "deadman_url",
        "supabase_service_key",
        "supabase_access_token",
        "supabase_db_password",
    }
)

#: Names of our own that are no settings: they steer single commands or are passed between our processes.
NOT_SETTINGS = frozenset({"HOLDFAST_CHILD", "HOLDFAST_CONFIG"})


class Settings(BaseModel):
    """What can be set. Times are in seconds.

    >>> Settings(slots=20).slots
    20
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    database_url: SecretStr | None = Field(
        None, description="The ledger's Postgres. Without it a local server is started and kept in data_dir."
    )
    data_dir: Path | None = Field(None, description="Where the local Postgres keeps its data.")
    app: str | None = Field(None, description="Your application as module:attribute, for worker and up.")
    queues: tuple[str, ...] = Field(
        (), description="The queues that a worker serves, comma-separated; by default those of its kinds."
    )
    kinds: tuple[str, ...] = Field(
        (), description="The kinds of job that a worker runs, comma-separated; by default all of its program."
    )
    slots: int = Field(10, ge=1, le=10_000, description="Jobs that one worker process runs at a time.")
    processes: int = Field(1, ge=1, le=256, description="Worker processes under one supervisor.")
    poll: float = Field(1.0, ge=0.05, le=60, description="How often an idle worker looks for jobs.")
    drain_timeout: float = Field(30.0, ge=0, description="How long a stopping worker lets its jobs finish.")
    termination_grace: float | None = Field(
        None,
        gt=0,
        description="How long the platform waits for a stopping process before it kills it (Kubernetes, systemd,"
        " a container engine); with it set, a drain_timeout that does not fit is refused.",
    )
    beat_interval: float = Field(5.0, gt=0, description="How often a worker tells that it lives.")
    lost_after: float = Field(25.0, gt=0, description="A worker silent for longer may be declared gone.")
    stale_after: float = Field(600.0, gt=0, description="A running job without any sign of life for longer is rescued.")
    sweep_interval: float = Field(5.0, gt=0, description="How often stuck jobs are looked for, over all processes.")
    keep_finished: float = Field(
        7 * 86400.0, ge=0, description="How long succeeded and cancelled jobs are kept; 7 days."
    )
    keep_dead: float = Field(90 * 86400.0, ge=0, description="How long dead jobs are kept; 90 days.")
    keep_incidents: float = Field(
        90 * 86400.0,
        ge=86400,
        description="How long incidents that are over, and dead letters that were decided about, are kept; 90 days.",
    )
    host: str = Field("127.0.0.1", description="The address that the API listens on.")
    port: int = Field(8484, ge=0, le=65535, description="The port that the API listens on; 0 takes a free one.")
    api_timeout: float = Field(
        5.0, gt=0, le=60, description="How long a request to the API may wait for the ledger; then it gets 503."
    )
    rate_limit: str = Field(
        "100/minute",
        description="Requests of each caller that the API admits: 100/minute, 5 per 10 seconds; several with commas.",
    )
    rate_limit_headers: tuple[Dialect, ...] = Field(
        ("draft-11",),
        description="Dialects of the fields that tell callers what is left, comma-separated: draft-11 (RateLimit,"
        " RateLimit-Policy), legacy (X-RateLimit-*), or none.",
    )
    read_only: bool = Field(
        False, description="Whether the API and the dashboard only show: nothing is changed through them."
    )
    redact: tuple[str, ...] = Field(
        (),
        description="Further names of values that the dashboard never shows, comma-separated; those that sound like"
        " secrets (password, token, ...) it hides anyway.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Networks of your proxies (10.0.0.0/8, comma-separated): behind them a caller is who"
        " X-Forwarded-For says.",
    )
    jwt_issuer: str | None = Field(
        None,
        description="Whose tokens (JWT) the API takes beside keys: the issuer, as `iss` names it, for example"
        " https://ID.supabase.co/auth/v1; its public keys are read below it.",
    )
    jwt_secret: SecretStr | None = Field(
        None, description="The secret that such tokens are signed with (HS256), where the issuer publishes no keys."
    )
    jwt_audience: str = Field("authenticated", min_length=1, description="For whom such tokens must be (`aud`).")
    jwt_claim: str = Field(
        "app_metadata.holdfast_role",
        description="The path of the claim that names the role: viewer, operator, submitter or admin. It must be one"
        " that users cannot write.",
    )
    run_dir: Path | None = Field(
        None, description="Where a service answers `holdfast probe`; by default below XDG_RUNTIME_DIR or /tmp."
    )
    probe_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="A port on which worker, monitor and up answer /livez, /readyz and /startupz, for orchestrators;"
        " none by default.",
    )
    probe_host: str = Field(
        "127.0.0.1", description="The address of that port; 0.0.0.0 in a pod. Nothing but a status is told there."
    )
    probe_metrics: bool = Field(
        False, description="Whether that port also shows /metrics where others can reach it; this machine always can."
    )
    url: str | None = Field(
        None,
        description="Where people and `holdfast doctor` reach the API: alerts link to its dashboard; by default"
        " http://HOST:PORT of these settings, and no link.",
    )
    api_key: SecretStr | None = Field(None, description="A key for the API, for `holdfast doctor`.")
    health_queues: tuple[str, ...] = Field(
        (),
        description="Queues with health limits of their own, comma-separated: NAME=WARN or NAME=WARN:FAIL, the seconds"
        " that a due job may wait. Others warn after 300.",
    )
    shutdown_delay: float = Field(
        0.0,
        ge=0,
        le=300,
        description="How long the API goes on answering once it is told to stop, with /readyz failing, so that load"
        " balancers notice.",
    )
    monitors: bool = Field(
        True, description="Whether `worker` also runs the monitors beside its workers: dead letters, alerts, bells."
    )
    sqs_queue_url: str | None = Field(
        None, description="An SQS queue for bells: it wakes idle workers, and no job depends on it. Holdfast's alone."
    )
    bell_queues: dict[str, str] = Field(
        {},
        description="SQS queues for the bells of single queues: mail=https://..., reports=https://...; in holdfast.toml"
        " the table [queues]. Others use the one above.",
    )
    watched_queue_url: str | None = Field(
        None,
        description="Your own SQS queue: its dead letters are watched; nothing is sent to it, unless it is tagged"
        " holdfast=bell.",
    )
    dlq_urls: tuple[str, ...] = Field(
        (), description="Further dead-letter queues to watch, comma-separated; those of the two queues above are found."
    )
    dlq_interval: float = Field(300.0, gt=0, description="How often dead-letter queues are looked at.")
    dlq_capture: tuple[str, ...] = Field(
        (),
        description="Dead-letter queues, by name, comma-separated, whose messages are moved into the ledger: kept there"
        " whole, then deleted from SQS. Of others copies are kept, and nothing is deleted.",
    )
    dlq_identity: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="The attribute, or field of a JSON body, that says which job a dead letter is about: what comes"
        " back under it is the same one. By default job_id, jobId, JobId or holdfast_job_id.",
    )
    watch: tuple[Watch, ...] = Field(
        (),
        description="Tables of your own whose stuck jobs are found: in holdfast.toml a table [[watch]] for each;"
        " in the environment a JSON array.",
    )
    slack_webhook_url: SecretStr | None = Field(
        None, description="An incoming webhook of Slack, where incidents are told; without it they are logged."
    )
    runbook_url: str | None = Field(
        None, description="Where you serve the runbook (docs/operations/runbook.md): alerts then link to what to do."
    )
    webhook_url: SecretStr | None = Field(
        None, description="A webhook of your own, where incidents are told as JSON (see Dead letters, SQS and Slack)."
    )
    webhook_secret: SecretStr | None = Field(
        None, description="The key that what is posted there is signed with, as Standard Webhooks says."
    )
    pagerduty_key: SecretStr | None = Field(
        None, description="The integration key of a service of PagerDuty (Events API v2), where incidents are alerts."
    )
    pagerduty_url: str = Field(
        "https://events.pagerduty.com/v2/enqueue", description="Where PagerDuty's Events API answers."
    )
    apprise_urls: SecretStr | None = Field(
        None,
        description="Services by their Apprise URLs, comma-separated, where incidents are told; needs apprise.",
    )
    deadman_url: SecretStr | None = Field(
        None, description="An address that the monitors ask each minute while all is well, for a dead man's switch."
    )
    repeat_interval: float = Field(
        3600.0, ge=60, description="An incident that nobody has acknowledged is told again after this, then rarer."
    )
    supabase_url: str | None = Field(
        None, description="A Supabase project's address (https://ID.supabase.co): the ledger over HTTPS."
    )
    supabase_service_key: SecretStr | None = Field(
        None, description="A secret key of the project (sb_secret_..., or the service_role key), for its address above."
    )
    supabase_access_token: SecretStr | None = Field(
        None, description="A token of a Supabase account (sbp_...): `migrate` then gets through where only 443 is open."
    )
    supabase_project_ref: str | None = Field(
        None, description="The project's id, where neither its address nor DATABASE_URL tells."
    )
    supabase_db_password: SecretStr | None = Field(
        None, description="The database's password, for the project's pooler; by default that of DATABASE_URL."
    )
    supabase_api_url: str = Field("https://api.supabase.com", description="Where Supabase's Management API answers.")
    otel: bool = Field(
        False,
        description="Whether to send traces and metrics by OpenTelemetry; where to, its own variables say (OTEL_*).",
    )
    otel_trace: Literal["link", "parent"] = Field(
        "link", description="Whether a run's span is linked to that of its enqueueing, or its child."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level logged.")

    @field_validator("rate_limit_headers", mode="before")
    @classmethod
    def _or_none(cls, value: Any) -> Any:
        return () if value == "none" else value

    @field_validator(
        "queues",
        "kinds",
        "redact",
        "trusted_proxies",
        "rate_limit_headers",
        "dlq_urls",
        "dlq_capture",
        "health_queues",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            ipaddress.ip_network(each)
        return value

    @field_validator("health_queues")
    @classmethod
    def _have_limits(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            _checked(parse_queue_limits, each)
        return value

    @field_validator("rate_limit")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        _checked(Policy.parse, value)
        return value

    @field_validator("sqs_queue_url")
    @classmethod
    def _is_for_bells(cls, value: str | None) -> str | None:
        return (
            value if value is None else _checked(check_queue_url, value, setting="HOLDFAST_SQS_QUEUE_URL", fifo=False)
        )

    @field_validator("bell_queues", mode="before")
    @classmethod
    def _are_pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
        if any(not sign or not name.strip() for name, sign, _ in pairs):
            raise ValueError("it must look like mail=https://sqs.eu-west-1.amazonaws.com/123456789012/mail-bells")
        return {name.strip(): url.strip() for name, _, url in pairs}

    @field_validator("bell_queues")
    @classmethod
    def _are_for_bells(cls, value: dict[str, str]) -> dict[str, str]:
        for name, url in value.items():
            _checked(check_queue_url, url, setting=f"HOLDFAST_BELL_QUEUES for {name!r}", fifo=False)
        return value

    @field_validator("watched_queue_url")
    @classmethod
    def _is_queue(cls, value: str | None) -> str | None:
        return value if value is None else _checked(check_queue_url, value, setting="SQS_QUEUE_URL", fifo=True)

    @field_validator("dlq_urls")
    @classmethod
    def _are_queues(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked(check_queue_url, each, setting="HOLDFAST_DLQ_URLS", fifo=True) for each in value)

    @field_validator("dlq_capture")
    @classmethod
    def _are_queue_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """A URL stands for its queue's name: it is what people have at hand."""
        names = tuple(queue_name(each) if "/" in each else each for each in value)
        for given, name in zip(value, names, strict=True):
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,75}(\.fifo)?", name):
                raise ValueError(f"{given[:100]!r} is no queue's name; it looks like orders-dlq")
        return names

    @field_validator("watch", mode="before")
    @classmethod
    def _are_watches(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise ValueError("it must be a JSON array; better write [[watch]] into holdfast.toml") from None
        if not isinstance(value, list | tuple) or not all(isinstance(each, dict | Watch) for each in value):
            raise ValueError("write [[watch]] into holdfast.toml, once for each table")
        queue_url = info.data.get("watched_queue_url")
        try:
            found = [each if isinstance(each, Watch) else parse_watch(each, queue_url=queue_url) for each in value]
            check_names(found)
            for each in found:
                if each.queue_url is not None:
                    check_queue_url(each.queue_url, setting=f"queue_url of {each.name!r}", fifo=True)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return tuple(found)

    @field_validator("slack_webhook_url")
    @classmethod
    def _is_webhook(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _checked(check_webhook, value.get_secret_value())
        return value

    @field_validator("runbook_url")
    @classmethod
    def _is_linkable(cls, value: str | None) -> str | None:
        if value is not None:
            _checked(check_runbook, value)
        return value

    @field_validator("webhook_url", "deadman_url")
    @classmethod
    def _is_own_webhook(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            setting = f"{PREFIX}{(info.field_name or '').upper()}"
            _checked(check_webhook, value.get_secret_value(), setting=setting)
        return value

    @field_validator("supabase_service_key", "supabase_access_token")
    @classmethod
    def _is_trimmed(cls, value: SecretStr | None) -> SecretStr | None:
        """A key read from a file often ends with a line break."""
        return value if value is None else SecretStr(value.get_secret_value().strip())

    @field_validator("supabase_url", "supabase_api_url")
    @classmethod
    def _is_safe_address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://localhost")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it must look like https://abcdefghijklmnopqrst.supabase.co")
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("keys travel to this address: beyond this machine it must begin with https://")
        return _with_a_port(value)

    @field_validator("jwt_issuer")
    @classmethod
    def _is_safe_issuer(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://localhost")
        if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")):
            return value
        raise ValueError("it must begin with https://, for example https://abcdefghijklmnopqrst.supabase.co/auth/v1")

    @field_validator("jwt_secret")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < LEAST_SECRET:
            raise ValueError(f"it must have {LEAST_SECRET} characters or more, else it can be guessed")
        return value

    @field_validator("jwt_claim")
    @classmethod
    def _is_not_for_users(cls, value: str) -> str:
        if not value or value.split(".", maxsplit=1)[0] in ("user_metadata", "raw_user_meta_data"):
            raise ValueError("it must be a claim that users cannot write themselves, as app_metadata.holdfast_role")
        return value

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://localhost")
        if parts.scheme not in ("http", "https") or not parts.hostname or set(value or "") & set("<>|# "):
            raise ValueError("it must look like https://jobs.example.org or http://127.0.0.1:8484")
        return _with_a_port(value)

    @field_validator("*", mode="after")
    @classmethod
    def _no_eternity(cls, value: Any) -> Any:
        if isinstance(value, float) and value > LONGEST:
            raise ValueError("this is longer than ten years")
        return value

    @property
    def https_ledger(self) -> str | None:
        """The ledger's address over HTTPS, with its key in it; None unless both are set.

        None as well where `database_url` names another database: that one is never replaced by the project's.
        """
        if self.supabase_url is None or self.supabase_service_key is None or self.is_database_apart:
            return None
        return rest_address(self.supabase_url, self.supabase_service_key.get_secret_value())

    @property
    def is_database_apart(self) -> bool:
        """Whether `database_url` names a database that is not the Supabase project of the other settings."""
        if self.database_url is None:
            return False
        dsn = self.database_url.get_secret_value()
        named = {project_ref(given=self.supabase_project_ref, url=self.supabase_url, dsn=None), supabase_project(dsn)}
        return not is_of_supabase(dsn) or len(named - {None}) > 1

    def with_changes(self, **changes: Any) -> "Settings":
        """These settings with some of them changed and checked again; None changes nothing."""
        given = {name: value for name, value in changes.items() if value is not None}
        try:
            return Settings.model_validate({**self.model_dump(), **given})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ConfigurationError(f"{first['loc'][0]}: {first['msg']}, got {first.get('input')!r}") from None

    def bell_routes(self) -> BellRoutes:
        """Which queue of SQS is rung for which queue."""
        return BellRoutes(self.sqs_queue_url, self.bell_queues)

    @property
    def takes_tokens(self) -> bool:
        """Whether the API takes tokens of an issuer beside keys."""
        return bool(self.jwt_issuer or self.jwt_secret)

    def alert_addresses(self) -> Addresses:
        """Where incidents are told."""
        secrets = (
            None if each is None else each.get_secret_value()
            for each in (self.slack_webhook_url, self.webhook_url, self.webhook_secret, self.pagerduty_key)
        )
        slack, webhook, webhook_secret, pagerduty = secrets
        apprise = None if self.apprise_urls is None else self.apprise_urls.get_secret_value()
        leads = (self.runbook_url, self.url)
        return Addresses(slack, webhook, webhook_secret, pagerduty, self.pagerduty_url, apprise, *leads)

    def health_limits(self) -> Limits:
        """Where health checks stop to pass."""
        return Limits(queues=dict(map(parse_queue_limits, self.health_queues)))

    def worker_settings(self, **changes: Any) -> WorkerSettings:
        """The part that a worker needs. Raises `ConfigurationError` where settings contradict each other."""
        least = self.drain_timeout + GRACE
        if self.termination_grace is not None and self.termination_grace < least:
            raise ConfigurationError(
                f"drain_timeout is {self.drain_timeout:g} s and termination_grace {self.termination_grace:g} s: a"
                f" worker that drains for so long would be killed before its last words ({GRACE:g} s);"
                f" lower drain_timeout, or raise the platform's grace to at least {least:g} s"
            )
        fields: dict[str, Any] = {
            "queues": self.queues or ("default",),
            "slots": self.slots,
            "poll": self.poll,
            "drain_timeout": self.drain_timeout,
            "stale_after": self.stale_after,
            "sweep_interval": self.sweep_interval,
            "keep_finished": self.keep_finished,
            "keep_dead": self.keep_dead,
            "keep_incidents": self.keep_incidents,
            "bells": self.bell_routes(),
            "timings": LeaseTimings(beat_interval=self.beat_interval, lost_after=self.lost_after),
        }
        return WorkerSettings(**{**fields, **changes})


#: Names that backends have already, and what they are here.
ALIASES = {
    "DATABASE_URL": "database_url",
    "SQS_QUEUE_URL": "watched_queue_url",
    "SLACK_WEBHOOK_URL": "slack_webhook_url",
    "SUPABASE_URL": "supabase_url",
    "SUPABASE_SERVICE_ROLE_KEY": "supabase_service_key",
    "SUPABASE_SECRET_KEY": "supabase_service_key",
    "SUPABASE_SERVICE_KEY": "supabase_service_key",
    "SUPABASE_ACCESS_TOKEN": "supabase_access_token",
    "SUPABASE_PROJECT_ID": "supabase_project_ref",
    "SUPABASE_PROJECT_REF": "supabase_project_ref",
    "SUPABASE_DB_PASSWORD": "supabase_db_password",
}


def _checked(check: Callable[..., object], value: str, **options: Any) -> str:
    """The value, with what the check says of it in the form that pydantic collects."""
    try:
        check(value, **options)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    return value


def _with_a_port(value: str | None) -> str | None:
    """An address, whose port, if it names one, is one that somebody can listen on."""
    try:
        port = urlsplit(value or "").port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("its port must be a number from 1 to 65535")
    return value


def load_settings(
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    giver: str = "the command line",
    **given: Any,
) -> Settings:
    """Read all sources and check them. Raises `ConfigurationError` that names the setting, its value and the way out.

    `given` are explicit values (None means not given), `giver` whose they are; `folder` is where `.env` and
    `holdfast.toml` are looked for.
    """
    environment = os.environ if environment is None else environment
    folder = Path.cwd() if folder is None else folder
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, found in (
        (TOML_FILE, _from_toml(folder / TOML_FILE)),
        (ENV_FILE, _from_environment(_read_env_file(folder / ENV_FILE), ENV_FILE)),
        ("the environment", _from_environment(environment, "the environment")),
        (giver, {name: value for name, value in given.items() if value is not None}),
    ):
        _refuse_unknown(found, source)
        values.update(found)
        origin.update(dict.fromkeys(found, source))
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        value = first.get("input")
        hidden = "(hidden)" if isinstance(value, str) else f"(hidden, of type {type(value).__name__})"
        shown = hidden if name in SECRETS else re.sub(r"//[^/\s]*@", "//...@", repr(value))
        raise ConfigurationError(
            f"setting {name} from {origin.get(name, 'the defaults')}: {first['msg'].removeprefix('Value error, ')},"
            f" got {shown}"
        ) from None
    settings.worker_settings()
    return settings


def settings_fingerprint(folder: Path | None = None) -> str:
    """Stands for what `.env` and `holdfast.toml` in a folder set now: a service that was started with another one is
    old.

    Nobody can read a value out of it.
    """
    folder = Path.cwd() if folder is None else folder
    values = {
        ENV_FILE: _from_environment(_read_env_file(folder / ENV_FILE), ENV_FILE),
        TOML_FILE: _from_toml(folder / TOML_FILE),
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _from_environment(environment: Mapping[str, str | None], source: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for alias, name in ALIASES.items():
        if environment.get(alias):
            values[name] = environment[alias]
    for key, value in environment.items():
        if key.startswith(PREFIX) and key not in NOT_SETTINGS and value:
            values[key.removeprefix(PREFIX).lower()] = value
    return values


def _from_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if isinstance(found.get("queues"), dict):  # the table: each queue with its queue of SQS
        found["bell_queues"] = found.pop("queues")
    return found


def _read_env_file(path: Path) -> dict[str, str | None]:
    if not path.exists():
        return {}
    try:
        return dict(dotenv_values(stream=io.StringIO(path.read_text(encoding="utf-8")), interpolate=False))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def _refuse_unknown(found: Mapping[str, Any], source: str) -> None:
    for name in found:
        if name not in Settings.model_fields:
            close = difflib.get_close_matches(name, Settings.model_fields, n=1)
            shown, *meant = [each if source == TOML_FILE else f"{PREFIX}{each.upper()}" for each in (name, *close)]
            advice = f"did you mean {meant[0]}?" if meant else "see the list of settings in the README"
            raise ConfigurationError(f"unknown setting {shown} in {source}; {advice}")
