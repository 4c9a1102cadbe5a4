"""What an operator can set: by GALLEY_* variables, by DATA/galley.toml, by options of `serve`.

Options win over variables, variables over the file. A group's setting is named with two
underscores in a variable (`GALLEY_LIMITS__BODY_BYTES`) and as a table in the file (`[limits]`).
"""

import ipaddress
import re
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

FILE_NAME = "galley.toml"
_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")
_BUCKET = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9.\-]+(/\S*)?")
_MAIL_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
MEBIBYTE = 1024 * 1024


class Limits(BaseModel):
    """How much is too much. Each limit is the largest value that is still accepted."""

    model_config = {"extra": "forbid", "frozen": True}

    body_bytes: int = Field(
        default=10_000_000, ge=1024, description="A request's JSON or form body."
    )
    body_idle_s: float = Field(default=30, gt=0, description="Silence while a body is being sent.")
    body_rate_bytes: int = Field(
        default=256,
        ge=0,
        description="The least bytes a second of a body, once `body_idle_s` have passed.",
    )
    json_depth: int = Field(default=64, ge=1, description="How deep lists and objects nest.")
    header_bytes: int = Field(
        default=65_536, ge=1024, description="All of a request's headers together."
    )
    header_count: int = Field(default=100, ge=10, description="How many headers a request has.")
    header_s: float = Field(default=30, gt=0, description="How long a request's headers may take.")
    url_bytes: int = Field(default=8192, ge=256, description="A request's path and query.")
    requests_per_minute: int = Field(
        default=12_000, ge=1, description="Of one user, by all tokens."
    )
    request_burst: int = Field(default=2000, ge=1, description="At once, of one user.")
    anonymous_per_minute: int = Field(
        default=600, ge=1, description="Of one address, by nobody known."
    )
    anonymous_burst: int = Field(default=600, ge=1, description="At once, of one address.")
    streams_per_user: int = Field(
        default=50, ge=1, description="Event streams that one user has open."
    )
    streams: int = Field(default=500, ge=1, description="Event streams open in all.")
    stream_stall_s: float = Field(
        default=30, gt=0, description="How long an answer waits for its reader."
    )
    connections: int = Field(default=2000, ge=10, description="Open connections.")
    handlers: int = Field(
        default=40, ge=1, description="Requests that work on the database at once."
    )
    drain_s: float = Field(
        default=30, ge=0, description="How long accepted requests may take at the end."
    )


class StepLimits(BaseModel):
    """What one attempt of a step may use, unless its step or its run say otherwise."""

    model_config = {"extra": "forbid", "frozen": True}

    memory_mb: int = Field(default=2048, ge=64, description="Memory of a step, in MB.")
    disk_mb: int = Field(
        default=10_240,
        ge=1,
        description="Each file that a step writes, and all of them together, in MB.",
    )
    cpu_s: int | None = Field(
        default=None, ge=1, description="Processor time of a step, in seconds."
    )
    processes: int = Field(default=512, ge=1, description="Processes of a step at once.")
    timeout_s: int = Field(
        default=3600,
        ge=0,
        description="How long a step may take, in seconds; 0: for ever. NoOp steps only wait.",
    )


class AccountSettings(BaseModel):
    """How the installation calls itself."""

    model_config = {"extra": "forbid", "frozen": True}

    name: str = Field(default="Galley", description="The installation's name.")
    code: str = Field(
        default="ga", pattern=r"^[a-z]{2,3}$", description="Two or three letters for it."
    )
    organisation: str = Field(default="Galley", description="The organisation's name.")
    support_email: str = Field(default="", description="Whom users ask.")


class Settings(BaseSettings):
    """Everything that `galley serve` can be told."""

    model_config = SettingsConfigDict(
        env_prefix="GALLEY_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data: Path = Field(description="The folder of everything that Galley keeps.")
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(
        default=8080, ge=0, le=65535, description="The port to listen on; 0: any free one."
    )
    tls_cert: Path | None = Field(
        default=None, description="The certificate (PEM, with its chain)."
    )
    tls_key: Path | None = Field(default=None, description="The certificate's key (PEM).")
    external_url: str | None = Field(
        default=None, description="The address under which clients reach this server, for links."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Networks (CIDR) of proxies whose X-Forwarded-* headers are believed.",
    )
    database_url: str | None = Field(
        default=None, description="`postgresql://...`; without it, DATA/galley.db (SQLite)."
    )
    database_pool: int = Field(default=10, ge=2, description="Connections kept open to Postgres.")
    blobs_url: str | None = Field(
        default=None, description="`s3://bucket/prefix`; without it, DATA/blobs."
    )
    kitchens_project: str = Field(
        default="main/recipes", description="The project whose branches are kitchens."
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        description="Steps that run at once, and as many again of those that only check and choose;"
        " without it, twice the processors.",
    )
    roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Folders, besides DATA/files, that recipes may read and write."
    )
    outbound_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Private networks (CIDR) that recipes, webhooks and vaults use.",
    )
    step_network: Literal["none", "declared"] = Field(
        default="none",
        description="Which programs of recipes may use the network: `none`, or those whose step"
        " declares `network`. Only bubblewrap or a container engine can hold them to it.",
    )
    keep_days: int | None = Field(
        default=92, ge=1, description="How long finished orders and runs are kept."
    )
    keep_work_days: int = Field(
        default=7, ge=0, description="How long the files that a finished run's steps shared stay."
    )
    smtp_host: str | None = Field(
        default=None, description="The mail server for alerts; without it no mail is sent."
    )
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Its port.")
    smtp_security: Literal["none", "starttls", "tls"] = Field(
        default="none", description="How the connection to it is encrypted."
    )
    smtp_user: str | None = Field(default=None, description="The name to sign in there with.")
    smtp_password: str | None = Field(default=None, repr=False, description="And the password.")
    smtp_sender: str = Field(
        default="galley@localhost", description="The address that alerts come from."
    )
    webhook_key: str | None = Field(
        default=None,
        repr=False,
        description="Signs webhooks; without it, a key derived from the secret key."
        " `galley webhook-key` prints it.",
    )
    metrics_token: str | None = Field(
        default=None,
        repr=False,
        description="What a reader of /metrics shows as its bearer token; without it, only"
        " loopback may read.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that goes to the log on standard error."
    )
    account: AccountSettings = Field(default_factory=AccountSettings, description="Its names.")
    limits: Limits = Field(default_factory=Limits, description="How much is too much.")
    step_limits: StepLimits = Field(
        default_factory=StepLimits, description="What a step may use that does not say it itself."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, then variables, then DATA/galley.toml; nothing else."""
        del dotenv_settings, file_secret_settings
        data = init_settings().get("data") or env_settings().get("data")
        file = Path(str(data)) / FILE_NAME if data else Path(FILE_NAME)
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    @field_validator("trusted_proxies", "roots", "outbound_allow", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """A variable gives a list as text with commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies", "outbound_allow")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise ValueError(
                    f"{text} is no network; write it like 10.0.0.0/8 or 127.0.0.1/32."
                ) from None
        return value

    @field_validator("external_url")
    @classmethod
    def _check_external(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path not in {"", "/"}:
            raise ValueError(
                f"{value} cannot be the external address; write scheme and host, without a path,"
                " like https://galley.example.org."
            )
        return f"{parts.scheme}://{parts.netloc}"

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: str | None) -> str | None:
        if value is None:
            return None
        scheme, mark, rest = value.partition("://")
        if scheme not in _POSTGRES or not mark or not rest:
            raise ValueError(
                "it must be a Postgres, like postgresql://user:password@host/database; leave it"
                " out for SQLite in the data folder."
            )
        return value

    @field_validator("blobs_url")
    @classmethod
    def _check_blobs(cls, value: str | None) -> str | None:
        if value is not None and not _BUCKET.fullmatch(value):
            raise ValueError(
                f"{value} is no bucket; write s3://bucket or s3://bucket/prefix, or leave it out to"
                " keep blobs in a folder."
            )
        return value

    @field_validator("smtp_sender")
    @classmethod
    def _check_sender(cls, value: str) -> str:
        if not _MAIL_ADDRESS.fullmatch(parseaddr(value)[1]):
            raise ValueError(f"{value} is no mail address; write one like galley@example.org.")
        return value

    @model_validator(mode="after")
    def _check_tls(self) -> "Settings":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or neither.")
        return self

    @model_validator(mode="after")
    def _check_roots(self) -> "Settings":
        data = self.data.resolve()
        for root in (folder.resolve() for folder in self.roots):
            is_open = root.is_relative_to(data) and not root.is_relative_to(data / "files")
            if is_open or data.is_relative_to(root):
                raise ValueError(
                    f"roots: {root} would open Galley's own data ({data}) to recipes; name folders"
                    " outside it. DATA/files is open to them anyway."
                )
        return self

    @property
    def database_file(self) -> Path:
        """The file of the database, where no other is named."""
        return self.data.absolute() / "galley.db"

    @property
    def database_address(self) -> str:
        """The SQLAlchemy address of the database."""
        if self.database_url is None:
            return f"sqlite:///{self.database_file}"
        scheme, _, rest = self.database_url.partition("://")
        return (
            f"postgresql+psycopg://{rest}" if scheme.startswith("postgres") else self.database_url
        )

    @property
    def blobs_address(self) -> str:
        """Where blobs are kept: a folder or an address."""
        return self.blobs_url or str(self.data.absolute() / "blobs")

    @property
    def repositories(self) -> Path:
        """The folder of the git repositories."""
        return self.data.absolute() / "git"

    @property
    def missing_roots(self) -> tuple[Path, ...]:
        """Folders among `roots` that are not there."""
        return tuple(root for root in self.roots if not root.is_dir())
