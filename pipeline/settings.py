"""All settings in one frozen tree; `bootstrap` passes plain values from it to the stages.

Read from a TOML file (`erasestream.toml`, or the path in `ERASESTREAM_SETTINGS`), then from
environment variables such as `ERASESTREAM_KAFKA__IDENTITIES`, which take precedence.  Secrets
are files whose paths are set here.  Unknown names are refused, and no host, bucket or key has a
default.  A variable that only begins like ours is another program's, and is warned of.
"""

import logging
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from erasestream.schemas.errors import Refused
from erasestream.schemas.events.images import MAX_PIXELS, MAX_UPLOAD_BYTES
from erasestream.schemas.events.installation import Environment
from erasestream.schemas.ids import Lane, LaneField
from erasestream.topics.catalog.catalog import Catalog, Durability, LaneSpec
from erasestream.topics.catalog.quotas import LaneQuota
from erasestream.topics.catalog.retention_budget import BrokerTimes, LaneTimes, Policy
from erasestream.topics.kafka.admin import REQUEST_TIMEOUT_S
from erasestream.topics.kafka.connection import Cluster

log = logging.getLogger(__name__)

PREFIX = "ERASESTREAM_"
SETTINGS_VARIABLE = f"{PREFIX}SETTINGS"
CACHE_VARIABLE = f"{PREFIX}CACHE"
"""Read by the commands that fetch jars and models; the one other variable of this prefix."""
DEFAULT_FILE = Path("erasestream.toml")

MAX_DEADLINE = timedelta(minutes=2)
PositiveInt = Annotated[int, Field(ge=1)]
PositiveTime = Annotated[timedelta, Field(gt=timedelta(0))]


class Section(BaseModel):
    """Base of all sections: frozen, unknown names refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    """The brokers, and the identities that clients show them."""

    bootstrap_servers: tuple[str, ...]
    identities: Path
    """Folder with `ca.crt` and, per role, `<role>.crt` and `<role>.key`."""
    replication: PositiveInt = 3
    min_insync: PositiveInt = 2
    consent_partitions: PositiveInt = 32
    """Partitions of each lane's decisions and history, and of `ledger`; never changeable."""
    retained_partitions: PositiveInt = 12
    """Partitions of the images for the sink: no more sinks than these have work; can grow."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_replaced(cls, values: object) -> object:
        """Say what replaces a setting that there was before the first release."""
        if isinstance(values, Mapping) and "shared_partitions" in values:
            raise ValueError(
                "shared_partitions is now consent_partitions, which must keep its number (4 if it "
                "was not set), and retained_partitions"
            )
        return values


class LaneSettings(Section):
    """One lane: an upstream service, or one class of its traffic."""

    partitions: PositiveInt = 4
    backlog_limit: PositiveTime = timedelta(hours=4)
    delivery: PositiveTime | None = None
    """Time in which results can be fetched; by default all that the promise leaves."""
    produce_bytes_per_s: PositiveInt = 100_000_000
    consume_bytes_per_s: PositiveInt = 200_000_000
    """Most that each of the lane's roles may send to, or take from, one broker."""
    request_percent: Annotated[float, Field(gt=0)] = 100.0
    """Most time of a broker's threads for each role; 100 is that of one thread."""
    model: str | None = None
    """Installed model of this lane, by name, or name and version; by default `inference.model`."""


class LifetimeSettings(Section):
    """The promised lifetime, the outages that records survive, and the brokers' own times."""

    promise: PositiveTime = timedelta(hours=24)
    reserve: PositiveTime = timedelta(hours=1)
    segment: PositiveTime = timedelta(minutes=15)
    router_outage: PositiveTime = timedelta(hours=4)
    sink_outage: PositiveTime = timedelta(hours=12)
    pick_up: PositiveTime = timedelta(minutes=30)
    judged_to_appended: PositiveTime = timedelta(seconds=60)
    check_interval: PositiveTime = timedelta(minutes=5)
    delete_delay: PositiveTime = timedelta(minutes=1)


class StorageSettings(Section):
    """The buckets, and the keys, which are never stored in them."""

    bucket: str
    vault: str
    keyring: Path
    """Folder of the local keyring: the master keys."""
    name_key: Path
    """File with the 32 bytes from which object names are derived."""
    endpoint: str | None = None
    """Address other than Google's; requires `ca` and `tokens`."""
    ca: Path | None = None
    tokens: Path | None = None
    """Folder with `<role>.token`; if absent, Application Default Credentials are used."""


class InferenceSettings(Section):
    """The model and the processes that run it."""

    models: Path
    model: str = "isnet"
    children: PositiveInt | None = None
    """Child processes of the worker; by default one for each processor that it may use, quotas
    included."""
    deadline: Annotated[timedelta, Field(gt=timedelta(0), le=MAX_DEADLINE)] = timedelta(seconds=20)
    """Time for a small image; the largest that is accepted has three times as long, others between.

    Longer only for a model that needs it: an image that takes so long occupies a child.
    """
    max_image_bytes: Annotated[int, Field(gt=0, le=MAX_UPLOAD_BYTES)] = MAX_UPLOAD_BYTES
    """Larger files are refused (`too_large`) before any of their bytes are read."""
    max_pixels: Annotated[int, Field(gt=0, le=MAX_PIXELS)] = MAX_PIXELS
    """Larger pictures are refused (`too_many_pixels`) before any pixel is decoded."""
    isolation: Literal["per_image", "long_lived"] = "per_image"
    """`long_lived` where a GPU forbids forking: see docs/isolation.md."""
    dangerously_run_without_isolation: bool = False
    """Run even if the kernel lacks Landlock or seccomp, without the missing mechanism."""


class StageSettings(Section):
    """Settings of every stage process."""

    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "1"
    """Name of this member within its stage's group; the same after a restart.

    Give each inference worker a name of its own, too: then a restart moves no partitions.
    """
    health_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Loopback port of /healthz and /readyz; 0 takes a free one and logs it."""
    ready_deadline: PositiveTime = timedelta(seconds=60)
    purge_interval: PositiveTime = timedelta(seconds=60)
    """Interval at which the purger deletes records that are no longer needed."""

    @property
    def answer_timeout_s(self) -> float:
        """Return the longest wait for one answer of a broker: at most the ready deadline."""
        return min(REQUEST_TIMEOUT_S, self.ready_deadline.total_seconds())


class Settings(BaseSettings):
    """The root of the tree."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
    )

    environment: Environment = Environment.PRODUCTION
    """Kind of stack, as which `erasestream provision` marks it; no other command asks for it."""
    kafka: KafkaSettings
    lanes: dict[LaneField, LaneSettings]
    lifetimes: LifetimeSettings = LifetimeSettings()
    storage: StorageSettings | None = None
    inference: InferenceSettings | None = None
    stage: StageSettings = StageSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the library's signature)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Rank the sources: arguments, then the environment, then the file."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    @property
    def cluster(self) -> Cluster:
        """Return the brokers' addresses and the identities' folder."""
        return Cluster(
            bootstrap_servers=self.kafka.bootstrap_servers, identities=self.kafka.identities
        )

    def catalog(self) -> Catalog:
        """Return the catalog of all topics.  Raises `Refused` if lifetimes exceed the promise."""
        times = self.lifetimes
        policy = Policy(
            promise_s=times.promise.total_seconds(),
            reserve_s=times.reserve.total_seconds(),
            segment_s=times.segment.total_seconds(),
            judged_to_appended_s=times.judged_to_appended.total_seconds(),
            pick_up_s=times.pick_up.total_seconds(),
            router_outage_s=times.router_outage.total_seconds(),
            sink_outage_s=times.sink_outage.total_seconds(),
            broker=BrokerTimes(
                check_interval_s=times.check_interval.total_seconds(),
                delete_delay_s=times.delete_delay.total_seconds(),
            ),
        )
        return Catalog.build(
            tuple(_lane(name, lane) for name, lane in self.lanes.items()),
            policy=policy,
            durability=Durability(
                replication=self.kafka.replication, min_insync=self.kafka.min_insync
            ),
            consent_partitions=self.kafka.consent_partitions,
            retained_partitions=self.kafka.retained_partitions,
            environment=self.environment,
        )


def _lane(name: Lane, lane: LaneSettings) -> LaneSpec:
    times = LaneTimes(
        backlog_limit_s=lane.backlog_limit.total_seconds(),
        delivery_s=lane.delivery.total_seconds() if lane.delivery else None,
    )
    quota = LaneQuota(
        produce_bytes_per_s=lane.produce_bytes_per_s,
        consume_bytes_per_s=lane.consume_bytes_per_s,
        request_percent=lane.request_percent,
    )
    return LaneSpec(name=name, partitions=lane.partitions, times=times, quota=quota)


def load(path: Path | None = None) -> Settings:
    """Read the settings.  Raises `Refused` naming a missing or wrong setting, never its value.

    `path` replaces the file that the environment names.
    """
    named = os.environ.get(SETTINGS_VARIABLE)
    file = path or Path(named or DEFAULT_FILE)
    if (path or named) and not file.is_file():
        raise Refused(f"settings: there is no file {file}")
    _check_variables(os.environ)

    class Located(Settings):
        """Settings that are read from this file."""

        model_config = SettingsConfigDict(toml_file=file)

    try:
        return Located()
    except ValidationError as error:
        wrong = ", ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise Refused(f"settings: {wrong}") from None
    except (OSError, ValueError) as error:
        raise Refused(f"settings: {error}") from None


_SERVICE_LINK = re.compile(
    r"\w+_(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=\d+|PORT=\w+://.*"
    r"|PORT_\d+_(TCP|UDP|SCTP)(=\w+://.*|_(PROTO|PORT|ADDR)=.*))",
    re.DOTALL,
)
"""Kubernetes sets these in every container for a Service: it may be called `erasestream-kafka`."""


def _check_variables(environment: Mapping[str, str]) -> None:
    """Refuse misspelt settings, which pydantic-settings ignores silently; warn of others."""
    known = {SETTINGS_VARIABLE, CACHE_VARIABLE, *_SECTIONS}
    misspelt = []
    for name, value in sorted(environment.items()):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper.partition("__")[0] in known:
            continue
        if _is_meant_as_setting(upper) and not _SERVICE_LINK.fullmatch(f"{upper}={value}"):
            misspelt.append(name)
        else:
            log.warning("unknown_variable", extra={"reason": f"no setting is called {name}"})
    if misspelt:
        raise Refused(f"settings: no setting is called {', '.join(misspelt)}")


def _is_meant_as_setting(name: str) -> bool:
    return "__" in name or any(name.startswith(f"{section}_") for section in _SECTIONS)


_SECTIONS = tuple(PREFIX + field.upper() for field in Settings.model_fields)
