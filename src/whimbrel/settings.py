"""Reads the environment once; other code takes plain values."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from whimbrel.domain.migrations.valid_names import RESERVED_DATABASES, is_database
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.sizing import LARGEST_BATCH
from whimbrel.domain.text.mongodb_addresses import database_of
from whimbrel.errors import SettingsInvalid
from whimbrel.plain_wording import plain

if TYPE_CHECKING:  # imported where they are needed: most commands need neither
    from whimbrel.domain.health.own_checks import OwnCheck
    from whimbrel.domain.runs.failure_budget import FailureBudget
    from whimbrel.domain.runs.schedules import Plan
    from whimbrel.domain.webhooks.addresses import Webhooks
    from whimbrel.engine.operating.start import Defaults

MEMBER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?")
MEMBER_PORT = re.compile(r":[0-9]{1,5}$")
UNNAMED = "whimbrel"  # the database where neither the environment nor the address names one


class Settings(BaseSettings):
    """Environment variables, also from a `.env` file in the working folder."""

    # The variables' names are the fields' names in capitals.
    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    mongodb_uri: str | None = Field(
        default=None, description="address of MongoDB; unset: an embedded one is started"
    )
    mongodb_db_name: str | None = Field(
        default=None,
        description=f"database of migrations that name none, and of the ledger; unset: the one of MONGODB_URI, else {UNNAMED}",
        min_length=1,
    )
    rabbitmq_url: str | None = Field(
        default=None,
        description="address of RabbitMQ, or those of a cluster's nodes with commas between; unset: workers look into the ledger",
    )
    rabbitmq_exchange: str = Field(
        default="app.topic.exchange", min_length=1, max_length=127, description="exchange of the pointers"
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="address that the API listens on")
    port: int = Field(default=3000, ge=0, le=65535, description="port of the API; 0: any that is free")
    api_tokens: str = Field(
        default="",
        description="who may use the API: scope:token or name=scope:token, with commas between; scopes are read, operate, admin",
    )
    api_rate: str = Field(
        default="120/minute", description="expensive requests of one caller, such as 10/second or 120/minute"
    )
    api_hosts: str = Field(
        default="",
        description="names of this server, with commas between: another `Host` is refused; unset: with API_TOKENS any will do, else localhost alone",
    )
    api_proxies: str = Field(
        default="",
        description="addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, with commas between; unset: nobody's",
    )
    api_public: Literal["all", "probes", "none"] = Field(
        default="all",
        description="what of health, metrics and /docs needs no token: all, /health/live and /health/ready, or none",
    )
    api_streams: int = Field(
        default=100, ge=1, le=10_000, description="event streams that are open at a time"
    )
    api_stream_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="seconds after which an event stream ends, for its reader to connect again",
    )
    api_timeout: float = Field(
        default=10.0,
        gt=0,
        description="seconds that the head of a request, or the next piece of its body, may take",
    )
    batch_size: int = Field(
        default=5000,
        ge=1,
        le=100_000,
        description=f"documents in a batch; unset: as many as take a slot about 20 seconds, up to {LARGEST_BATCH:,}",
    )
    processing_delay: int = Field(default=0, ge=0, le=60_000, description="milliseconds between two chunks")
    max_retries: int = Field(default=3, ge=0, le=99, description="tries of a document after the first")
    retry_delay: int = Field(
        default=5000, ge=0, le=3_600_000, description="milliseconds until the first retry; doubles with each"
    )
    cron_schedule: str = Field(
        default="*/1 * * * *", description="cron of the schedule `default`, when it is first made"
    )
    enable_scheduler: bool = Field(
        default=False,
        description="true enables the schedule `default`, unless a person has changed it or stopped the scheduler",
    )
    log_format: str = Field(default="auto", pattern="^(auto|json|console)$")
    log_level: str = Field(default="warning", pattern="^(debug|info|warning|error)$")
    whimbrel_migrations: str | None = Field(
        default=None, description="file, folder or module with the migrations; several with commas between"
    )
    whimbrel_home: Path = Field(default=Path(".whimbrel"), description="folder of the embedded MongoDB")
    whimbrel_lease: float = Field(
        default=15.0, gt=0, description="seconds that a claim lasts without renewal"
    )
    whimbrel_grace: float = Field(
        default=5.0, gt=0, description="seconds after a lease in which nobody takes the batch"
    )
    whimbrel_statement: float = Field(
        default=4.0, gt=0, description="seconds that one statement may take; less than the grace"
    )
    whimbrel_sweep: float = Field(default=5.0, gt=0, description="seconds between two looks for lost leases")
    whimbrel_notes: float = Field(
        default=0.01, gt=0, description="the share of a batch's time that noting how far it is may take"
    )
    whimbrel_broker_look: float = Field(
        default=5.0,
        gt=0,
        description="seconds between two looks whether RabbitMQ still holds and delivers pointers",
    )
    whimbrel_idle_poll: float = Field(
        default=1.0, gt=0, description="longest pause between two looks for work"
    )
    whimbrel_loading: float = Field(
        default=600.0, gt=0, description="seconds that importing the migrations may take"
    )
    whimbrel_max_memory: str | None = Field(
        default=None,
        description="what a worker process may hold, such as 800 (megabytes), 512M, 2G or none; unset: what the machine has room for, 512 MB to 2 GB",
    )
    whimbrel_health: Literal["on", "off"] = Field(
        default="on",
        description="on: runs go slower, or wait, while the database is not well (docs/health.md); off: nobody looks, and nothing waits",
    )
    whimbrel_health_checks: str = Field(
        default="",
        description="a TOML file with checks of your own, over HTTP or of Prometheus, which count like the database's signals (docs/health.md)",
    )
    whimbrel_health_ignore_members: str = Field(
        default="",
        description="members of the replica set whose lag and silence do not count, as host:port with commas between",
    )
    whimbrel_max_failures: str = Field(
        default="off", description="failed documents that a run may have before it pauses, or off"
    )
    whimbrel_max_failure_rate: str = Field(
        default="5%",
        description="share of documents that may fail, such as 5% or 0.05, before a run pauses; or off",
    )
    whimbrel_max_new_cause: str = Field(
        default="20",
        description="failures of one cause that nobody has seen before, at which a run pauses; or off",
    )
    whimbrel_keep_days: int = Field(
        default=90, ge=1, le=36_500, description="days after their end that runs are kept"
    )
    whimbrel_connect_seconds: float = Field(
        default=10.0, gt=0, description="seconds to wait for MongoDB at the start"
    )
    whimbrel_webhooks: SecretStr = Field(
        default=SecretStr(""),
        description="addresses that are told what becomes of runs, with commas between (docs/observability.md)",
    )
    whimbrel_webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description="by which receivers of webhooks verify the sender, 16 characters at least",
    )
    whimbrel_webhook_allow_private: bool = Field(
        default=False, description="true lets webhooks lead to private, loopback and link-local addresses"
    )
    whimbrel_webhook_no_progress: float = Field(
        default=15.0, ge=0, le=10_080, description="minutes without progress of a run that are told; 0: never"
    )
    whimbrel_dashboard: Literal["on", "off"] = Field(
        default="on", description="off: serve answers with the REST API alone, without pages"
    )

    @field_validator("cron_schedule")
    @classmethod
    def _cron(cls, text: str) -> str:
        from whimbrel.domain.runs.schedules import check_cron  # noqa: PLC0415

        try:
            return check_cron(text)
        except SettingsInvalid as error:
            raise ValueError(str(error)) from error

    @field_validator("whimbrel_max_failures", "whimbrel_max_failure_rate", "whimbrel_max_new_cause")
    @classmethod
    def _limit(cls, text: str, info: ValidationInfo) -> str:
        from whimbrel.domain.runs import budget_texts  # noqa: PLC0415

        read = {"whimbrel_max_failures": budget_texts.read_limit, "whimbrel_max_new_cause": budget_texts.read_new_cause}  # fmt: skip
        try:
            read.get(info.field_name or "", budget_texts.read_rate)(text)
        except SettingsInvalid as error:
            raise ValueError(str(error)) from error
        return text

    @property
    def database(self) -> str:
        """The database of migrations that name none, and of the ledger. Raises SettingsInvalid."""
        addressed = database_of(self.mongodb_uri) if self.mongodb_uri else None
        name = self.mongodb_db_name or addressed or UNNAMED
        name_shown = (
            f"MONGODB_DB_NAME={name!r}" if self.mongodb_db_name else f"The database {name!r} in MONGODB_URI"
        )
        if name.lower() in RESERVED_DATABASES:
            raise SettingsInvalid(
                f"{name_shown} is MongoDB's own: nothing is migrated there, and no ledger kept. Name yours with MONGODB_DB_NAME; where your "
                f"users are in {name}, the address says so by /?authSource={name}."
            )
        if not is_database(name):
            raise SettingsInvalid(
                f"{name_shown} cannot be the name of a database: take letters, digits, '-' and '_', at most 63 bytes."
            )
        return name

    @property
    def overruled(self) -> str:
        """A note where the address names another database than MONGODB_DB_NAME; else empty."""
        addressed = database_of(self.mongodb_uri) if self.mongodb_uri else None
        if not self.mongodb_db_name or addressed in (None, self.mongodb_db_name, "admin"):
            return ""  # admin: many addresses name it for the users
        return f"MONGODB_URI names the database {addressed!r}, MONGODB_DB_NAME names {self.mongodb_db_name!r}: {self.mongodb_db_name!r} is used."

    @property
    def own_checks(self) -> "tuple[OwnCheck, ...]":
        """The user's own checks of health. Raises SettingsInvalid."""
        if not self.whimbrel_health_checks:
            return ()
        from whimbrel.domain.health.own_checks import LARGEST_FILE, own_checks  # noqa: PLC0415

        where = f"WHIMBREL_HEALTH_CHECKS={self.whimbrel_health_checks}"
        try:
            with Path(self.whimbrel_health_checks).open("rb") as file:
                return own_checks(file.read(LARGEST_FILE + 1))
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise SettingsInvalid(f"{where} cannot be read: {getattr(error, 'strerror', error)}.") from error
        except SettingsInvalid as error:
            raise SettingsInvalid(f"{where}: {error}") from error

    @property
    def ignored_members(self) -> frozenset[str]:
        """The members of the replica set that do not count, as MongoDB names them. Raises SettingsInvalid."""
        names = [name.strip() for name in self.whimbrel_health_ignore_members.split(",") if name.strip()]
        for name in names:
            if not MEMBER.fullmatch(name):
                raise SettingsInvalid(
                    f"WHIMBREL_HEALTH_IGNORE_MEMBERS has {name!r}, which is no member: write host:port as rs.conf() does, with commas between."
                )
        return frozenset(name if MEMBER_PORT.search(name) else f"{name}:27017" for name in names)

    @property
    def first_schedule(self) -> "Plan":
        from whimbrel.domain.runs.schedules import Plan  # noqa: PLC0415
        from whimbrel.samples.migration import SOME_MODEL  # noqa: PLC0415

        return Plan(migration=SOME_MODEL.name, cron=self.cron_schedule, enabled=self.enable_scheduler)

    @property
    def webhooks(self) -> "Webhooks | None":
        """What is said about webhooks; None where there are none. Raises SettingsInvalid."""
        addresses = self.whimbrel_webhooks.get_secret_value()
        if not addresses.strip():
            return None
        from whimbrel.domain.webhooks.addresses import read_webhooks  # noqa: PLC0415

        return read_webhooks(
            addresses,
            self.whimbrel_webhook_secret.get_secret_value(),
            allow_private=self.whimbrel_webhook_allow_private,
            no_progress=self.whimbrel_webhook_no_progress * 60,
        )

    @property
    def times(self) -> Times:
        try:
            return Times(
                lease=self.whimbrel_lease, grace=self.whimbrel_grace, statement=self.whimbrel_statement,
                sweep=self.whimbrel_sweep, delay=self.processing_delay / 1000, idle_poll=self.whimbrel_idle_poll,
                broker=self.whimbrel_broker_look, notes=self.whimbrel_notes,
            )  # fmt: skip
        except ValueError as error:
            raise SettingsInvalid(
                f"WHIMBREL_LEASE, WHIMBREL_GRACE and WHIMBREL_STATEMENT do not fit: {error}."
            ) from error

    @property
    def defaults(self) -> "Defaults":
        from whimbrel.engine.operating.start import Defaults  # noqa: PLC0415

        return Defaults(
            batch_size=self.batch_size,
            largest_batch=0 if "batch_size" in self.model_fields_set else LARGEST_BATCH,
            max_attempts=self.max_retries + 1,
            retry_delay=self.retry_delay / 1000,
            budget=self.budget,
        )

    @property
    def budget(self) -> "FailureBudget":
        """The failure budget of runs where nothing else is said."""
        from whimbrel.domain.runs.budget_texts import read_limit, read_new_cause, read_rate  # noqa: PLC0415
        from whimbrel.domain.runs.failure_budget import FailureBudget  # noqa: PLC0415

        return FailureBudget(
            read_limit(self.whimbrel_max_failures), read_rate(self.whimbrel_max_failure_rate),
            read_new_cause(self.whimbrel_max_new_cause),
        )  # fmt: skip


def read_settings() -> Settings:
    """Reads the settings. Raises SettingsInvalid, which names every invalid variable."""
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(
            f"{str(fault['loc'][0]).upper()}={fault['input']!r}: {plain(fault['msg'])}"
            for fault in error.errors()
        )
        raise SettingsInvalid(f"These settings cannot be used: {faults}.") from error
