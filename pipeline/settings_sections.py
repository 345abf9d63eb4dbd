"""The sections of the settings (`settings.py`), each with its defaults and bounds."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, MAX_PIXELS, MAX_UPLOAD_BYTES
from erasestream.schemas.ids import LaneField
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.kafka.admin import REQUEST_TIMEOUT_S
from erasestream.topics.kafka.sasl import Authentication
from erasestream.topics.kafka.tls import MinimumTls

MAX_DEADLINE = timedelta(minutes=2)
PositiveInt = Annotated[int, Field(ge=1)]
PositiveTime = Annotated[timedelta, Field(gt=timedelta(0))]


class Section(BaseModel):
    """Base of all sections: frozen, unknown names refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    """The brokers, and the identities that clients show them (docs/managed-kafka.md)."""

    bootstrap_servers: tuple[str, ...]
    identities: Path
    """Folder with `ca.crt` and, per role, `<role>.crt` and `<role>.key`, or its secret."""
    authentication: Authentication = Authentication.CERTIFICATE
    """`certificate`, or SASL inside TLS: SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or OAUTHBEARER."""
    minimum_tls: MinimumTls = MinimumTls.TLS_1_3
    """`1.2` for a service without 1.3; then with AEAD and forward secrecy only."""
    oauth_extensions: dict[str, str] = {}
    """Sent with a token, as some services demand."""
    max_upload_bytes: Annotated[int, Field(gt=0, le=MAX_UPLOAD_BYTES)] = MAX_UPLOAD_BYTES
    """Largest upload, for a service that accepts smaller records; see docs/managed-kafka.md."""
    max_cutout_bytes: Annotated[int, Field(gt=0, le=MAX_CUTOUT_BYTES)] = MAX_CUTOUT_BYTES
    """Largest cut-out; at least as large as the largest upload."""
    principals: dict[str, tuple[str, ...]] = {}
    """Users by role, as the brokers name them, where that is not the role's own name."""
    replication: PositiveInt = 3
    min_insync: PositiveInt = 2
    consent_partitions: PositiveInt = 32
    """Partitions of each lane's decisions, which stages load in parallel; never changeable."""
    history_partitions: PositiveInt = 8
    """Partitions of each lane's ledger and erasures, and of `ledger`; never changeable.

    An account's history is read from one of them.
    """
    retained_partitions: PositiveInt = 12
    """Partitions of the images for the sink: no more sinks than these have work; can grow."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_replaced(cls, values: object) -> object:
        """Say what replaces a setting that there was before the first release."""
        if isinstance(values, Mapping) and "shared_partitions" in values:
            raise ValueError(
                "shared_partitions is now consent_partitions and history_partitions, which must "
                "keep its number (4 if it was not set), and retained_partitions"
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
    sealing: Sealing = Sealing.REQUIRED
    """`required`, or `accepted`: uploads that are not sealed are taken as well, for clients that
    cannot seal; brokers then hold those and their results in clear."""
    gateway: bool = False
    """Whether customers reach the lane through a gateway, with API keys."""


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
    keyring: Path | None = None
    """Folder of the local keyring: the grants' master keys."""
    kms_key: str | None = None
    """The grants' master key in Cloud KMS instead (extra kms), by its whole name:
    `projects/P/locations/L/keyRings/R/cryptoKeys/K`."""
    kms_endpoint: str | None = None
    """Address of a Cloud KMS other than Google's; requires `ca` and `tokens`."""
    name_key: Path
    """File with the 32 bytes from which object names are derived."""
    endpoint: str | None = None
    """Address other than Google's; requires `ca` and `tokens`."""
    ca: Path | None = None
    tokens: Path | None = None
    """Folder with `<role>.token`; if absent, Application Default Credentials are used."""
    uploads_in_flight: Annotated[int, Field(ge=1, le=64)] = 32
    """Images that the sink uploads at the same time."""
    bytes_in_flight: Annotated[int, Field(gt=0)] = 64_000_000
    """Bytes of images that the sink has read and not stored; each takes memory twice, and one is
    always admitted, however large."""

    @model_validator(mode="after")
    def _have_one_master_key(self) -> Self:
        if (self.keyring is None) == (self.kms_key is None):
            raise ValueError("either keyring or kms_key is needed")
        return self


class RotationSettings(Section):
    """Rotation of the grants' master key (`erasestream rotate`)."""

    interval: PositiveTime = timedelta(days=7)
    """Age at which the newest version is followed by another."""
    destroyed_within: PositiveTime = timedelta(days=1)
    """Longest time for which a version of a key in Cloud KMS may be restored after its destruction
    was asked for; `erasestream rotate` refuses a key that takes longer."""


class KeySettings(Section):
    """The key service, its clients, and the lives of the keys of epochs."""

    endpoints: Annotated[tuple[str, ...], Field(min_length=1)]
    """Addresses of all replicas, `https://host:port`."""
    masters: Path | None = None
    """Folder of the master keys of epochs, which all replicas share; only they read it."""
    listen_host: str | None = None
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 9443
    """Address of one replica; only the key service reads it."""
    epoch: PositiveTime = timedelta(hours=1)
    clock_error: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(minutes=5)
    """Largest difference between any two clocks of the installation."""
    destruction: PositiveTime = timedelta(minutes=10)
    """Longest time from a key's death until its absence is verified."""
    delivery: PositiveTime = timedelta(hours=12)
    """Shortest time for which a result can be opened, where its lane sets no `delivery`."""

    def times(self, promise: timedelta) -> EpochTimes:
        """Return the epochs' times in seconds."""
        return EpochTimes(
            promise_s=promise.total_seconds(),
            length_s=self.epoch.total_seconds(),
            clock_error_s=self.clock_error.total_seconds(),
            destruction_s=self.destruction.total_seconds(),
            delivery_s=self.delivery.total_seconds(),
        )


class ReceiptSettings(Section):
    """The transparency log, and who signs it."""

    log_key: str
    """Public key of the log, `<name>+<id>+<base64>`, or a file with it: its name is the log's."""
    auditor_key: str
    """Public key of the auditor, which cosigns the log, or a file with it."""
    signing_key: Path | None = None
    """File with the 32 bytes of the log's private key; only `erasestream attest` reads it."""
    auditor_signing_key: Path | None = None
    """File with the auditor's; only `erasestream log cosign` reads it."""
    secret: Path | None = None
    """File with 32 bytes, never changed, from which ids and salts of receipts derive."""
    folder: Path | None = None
    """Folder with the log, instead of the vault."""


class GatewaySettings(Section):
    """HTTPS for customers without a Kafka client; several gateways may serve one lane."""

    lane: LaneField
    """Its lane, whose section has `gateway = true`."""
    listen_host: str
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 8443
    certificate: Path
    """Certificate for the customers' clients, with its chain; read again once it is replaced."""
    certificate_key: Path
    result_wait: PositiveTime = timedelta(seconds=60)
    """Longest wait of a request for its cut-out, from the moment at which its image is there."""
    max_waiting: PositiveInt = 64
    """Uploads whose cut-outs are waited for; requests beyond are answered 503."""
    rate_per_minute: PositiveInt = 500
    """Images of each API key in a minute at this gateway; one counts once for each megapixel."""
    images_at_once: PositiveInt = 32
    """Images of each API key that are processed at once at this gateway."""
    reads_per_minute: PositiveInt = 3000
    """Requests of each API key in a minute at this gateway that read or delete an image."""
    fetch_urls: bool = False
    """Fetch images from public https URLs (`image_url`), in confined processes of their own."""
    max_memory_bytes: Annotated[int, Field(ge=300_000_000)] = 512_000_000
    """Images and cut-outs in memory, Base64 included; requests beyond are answered 503."""
    max_connections: PositiveInt = 1000
    """Open connections; more are closed at once, as are more than half of the open files allow."""
    connections_per_address: PositiveInt = 256
    """Open connections from one address.  Behind a balancer that hides its clients' addresses, as
    many as `max_connections`."""
    service: Annotated[str, Field(min_length=1, max_length=64)] = "Erasestream"
    """Name of the service on the account page, and of the data controller in consent receipts."""
    session: PositiveTime = timedelta(minutes=30)
    """Life of an owner's session on the account page."""
    session_key: Path | None = None
    """File with the 32 bytes that sign sessions, the same for all gateways of the lane; by default
    random bytes, so that a session ends with the process and counts on one gateway only."""
    plan: dict[str, str] = {}
    """Fields about the customer's plan that the answer about an account has as well."""


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
