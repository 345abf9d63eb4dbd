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
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from erasestream.pipeline.settings_sections import (
    GatewaySettings,
    InferenceSettings,
    KafkaSettings,
    KeySettings,
    LaneSettings,
    LifetimeSettings,
    ReceiptSettings,
    RotationSettings,
    StageSettings,
    StorageSettings,
)
from erasestream.schemas.errors import Refused
from erasestream.schemas.events.installation import Environment
from erasestream.schemas.ids import Lane, LaneField
from erasestream.topics.catalog.catalog import Catalog, Durability, LaneSpec
from erasestream.topics.catalog.epochs import EpochTimes, verify
from erasestream.topics.catalog.image_sizes import ImageSizes
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.catalog.principals import Principals
from erasestream.topics.catalog.quotas import LaneQuota
from erasestream.topics.catalog.retention_budget import BrokerTimes, LaneTimes, Policy
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.connection import Cluster

__all__ = [
    "CACHE_VARIABLE",
    "DEFAULT_FILE",
    "PREFIX",
    "SETTINGS_VARIABLE",
    "GatewaySettings",
    "InferenceSettings",
    "KafkaSettings",
    "KeySettings",
    "LaneSettings",
    "LifetimeSettings",
    "Settings",
    "StageSettings",
    "StorageSettings",
    "load",
]

log = logging.getLogger(__name__)

PREFIX = "ERASESTREAM_"
SETTINGS_VARIABLE = f"{PREFIX}SETTINGS"
CACHE_VARIABLE = f"{PREFIX}CACHE"
"""Read by the commands that fetch jars and models; the one other variable of this prefix."""
DEFAULT_FILE = Path("erasestream.toml")


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
    keys: KeySettings | None = None
    receipts: ReceiptSettings | None = None
    rotation: RotationSettings = RotationSettings()
    inference: InferenceSettings | None = None
    gateway: GatewaySettings | None = None
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
        """Return the addresses of brokers and key service, and the identities' folder."""
        return Cluster(
            bootstrap_servers=self.kafka.bootstrap_servers,
            identities=self.kafka.identities,
            authentication=self.kafka.authentication,
            minimum_tls=self.kafka.minimum_tls,
            oauth_extensions=self.kafka.oauth_extensions,
            key_endpoints=self.keys.endpoints if self.keys else (),
        )

    def seals(self, lane: Lane) -> bool:
        """Return whether our commands seal what they upload: always, if there are keys."""
        required = lane not in self.lanes or self.lanes[lane].sealing is Sealing.REQUIRED
        return required or self.keys is not None

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
            history_partitions=self.kafka.history_partitions,
            retained_partitions=self.kafka.retained_partitions,
            environment=self.environment,
            sizes=ImageSizes(
                max_upload_bytes=self.kafka.max_upload_bytes,
                max_cutout_bytes=self.kafka.max_cutout_bytes,
            ),
            principals=Principals(
                {Role(role): names for role, names in self.kafka.principals.items()}
            ),
        )

    def epochs(self) -> EpochTimes:
        """Return the lives of the keys of epochs.

        Raises `Refused` if the section `keys` is missing, or a key would outlive the promise or
        die too early.
        """
        if self.keys is None:
            raise Refused("settings: the section keys is missing")
        catalog = self.catalog()
        times = self.keys.times(self.lifetimes.promise)
        verify(times, catalog.policy, tuple(lane.times for lane in catalog.lanes))
        return times


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
    return LaneSpec(
        name=name,
        partitions=lane.partitions,
        times=times,
        quota=quota,
        sealing=lane.sealing,
        gateway=lane.gateway,
    )


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
