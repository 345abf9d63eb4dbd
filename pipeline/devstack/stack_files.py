"""All files of a development stack: certificates, tokens, keys and settings.

Created once and never changed.  In the folder, which only its owner can enter:

    authority/      the CA with its key; no stage gets this folder
    identities/     `ca.crt`, and certificate and key of each role and server
    tokens/         the bearer token of each role with access to a bucket
    keyring/        the master keys of the vault
    masters/        the master keys of epochs
    name.key        the key from which object names derive
    receipts/       the keys of the transparency log and its auditor, and the receipts' secret
    bucket.json     settings of the local bucket; `bucket-faults.json` switches its faults
    erasestream.toml    settings of all stages and commands
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from erasestream.pipeline.devstack.certificate_authority import LOCAL_HOSTS, CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.authentication import issue_token
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.pipeline.devstack.private_folder import make_private
from erasestream.pipeline.settings import KeySettings, LaneSettings, LifetimeSettings
from erasestream.schemas.clocks import utc_now
from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.sinks.buckets.access_policy import IMAGES, VAULT, Role
from erasestream.sinks.images.object_names import NAME_KEY_BYTES
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.sinks.log.key_files import make_keys, settings_of
from erasestream.topics.catalog.catalog import Catalog, Durability, LaneSpec
from erasestream.topics.catalog.roles import KEYS

IMAGE_BUCKET = "images"
VAULT_BUCKET = "vault"
SETTINGS_FILE = "erasestream.toml"
BROKER = "broker"
BUCKET = "bucket"
BUCKET_HOST = "127.0.0.2"
"""The bucket's own address on the loopback interface: its certificate names no broker's."""
KEYS_HOST = "127.0.0.3"
"""The key service's own address, likewise."""
GATEWAY = "gateway"
GATEWAY_HOST = "127.0.0.4"
"""The gateway's own address, likewise."""
ONE_COPY = Durability(replication=1, min_insync=1)
LOG_NAME = "localhost/erasestream"
AUDITOR_NAME = "localhost/auditor"
FEW_PARTITIONS = 4
"""Of the topics that lanes share or do not size: one broker of a development stack has them all."""


class StackFiles:
    """The folder, and the paths in it."""

    def __init__(self, directory: Path) -> None:
        self.directory: Path = directory.resolve()
        self.identities: Path = self.directory / "identities"
        self.tokens: Path = self.directory / "tokens"
        self.keyring: Path = self.directory / "keyring"
        self.masters: Path = self.directory / "masters"
        self.name_key: Path = self.directory / "name.key"
        self.session_key: Path = self.directory / "session.key"
        self.receipts: Path = self.directory / "receipts"
        self.settings: Path = self.directory / SETTINGS_FILE
        self.bucket_settings: Path = self.directory / "bucket.json"
        self.bucket_faults: Path = self.directory / "bucket-faults.json"
        self.logs: Path = self.directory / "logs"

    def create_identities(
        self,
        lanes: Iterable[Lane],
        *,
        broker_hosts: tuple[str, ...] = LOCAL_HOSTS,
        bucket_hosts: tuple[str, ...] = (BUCKET_HOST,),
        key_hosts: tuple[str, ...] = (KEYS_HOST,),
        gateway_hosts: tuple[str, ...] = (GATEWAY_HOST,),
    ) -> None:
        """Issue certificates for all roles, and for the servers under hosts of their own.

        Raises `Refused` if two share one: either could pass for the other.
        """
        servers = broker_hosts, bucket_hosts, key_hosts, gateway_hosts
        named = [host for hosts in servers for host in {*hosts}]
        if shared := {host for host in named if named.count(host) > 1}:
            raise Refused(
                "broker, bucket, key service and gateway need names of their own, "
                f"two of them have {min(shared)}"
            )
        make_private(self.directory)
        self.identities.mkdir(mode=0o700)
        authority = CertificateAuthority.create(self.directory / "authority", now=utc_now)
        authority.issue_broker(BROKER, self.identities, hosts=broker_hosts)
        authority.issue_server(BUCKET, self.identities, hosts=bucket_hosts)
        authority.issue_stage_server(KEYS, self.identities, hosts=key_hosts)
        authority.issue_server(GATEWAY, self.identities, hosts=gateway_hosts)
        catalog = Catalog.build(tuple(LaneSpec(name=lane) for lane in lanes))
        for role in catalog.roles:
            if role != KEYS:
                authority.issue_role(role, self.identities)

    def create_secrets(self) -> None:
        """Create tokens, keys and secrets, and a folder for epochs' masters."""
        for role in Role:
            issue_token(self.tokens, role)
        LocalKeyring.create(self.keyring)
        make_private(self.masters)
        for path in (self.name_key, self.session_key):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(NAME_KEY_BYTES))
        make_keys(self.receipts, log=LOG_NAME, auditor=AUDITOR_NAME)

    def write_bucket_settings(self, *, host: str, port: int) -> None:
        """Write the settings of the local bucket server."""
        settings = BucketSettings(
            host=host,
            port=port,
            port_file=self.directory / "bucket.port",
            certificate=self.identities / f"{BUCKET}.crt",
            key=self.identities / f"{BUCKET}.key",
            data=self.directory / BUCKET,
            tokens=self.tokens,
            buckets={IMAGE_BUCKET: IMAGES, VAULT_BUCKET: VAULT},
            faults=self.bucket_faults,
        )
        self.bucket_settings.write_text(settings.model_dump_json(indent=1))

    def write_settings(
        self,
        *,
        bootstrap: tuple[str, ...],
        durability: Durability = ONE_COPY,
        endpoint: str,
        keys: KeySettings,
        gateway: tuple[str, int] | None = None,
        lanes: Mapping[Lane, LaneSettings],
        lifetimes: LifetimeSettings,
        models: Path,
        model: str,
    ) -> None:
        """Write all settings; `keys` without the masters' folder, `gateway` with host and port."""
        keys = keys.model_copy(update={"masters": self.masters})
        sections: dict[str, Mapping[str, object]] = {
            "": {"environment": "development"},
            "kafka": {
                "bootstrap_servers": list(bootstrap),
                "identities": str(self.identities),
                "replication": durability.replication,
                "min_insync": durability.min_insync,
                "consent_partitions": FEW_PARTITIONS,
                "history_partitions": FEW_PARTITIONS,
                "retained_partitions": FEW_PARTITIONS,
            },
            "lifetimes": lifetimes.model_dump(mode="json", exclude_defaults=True),
            "storage": _storage(self, endpoint),
            "keys": keys.model_dump(mode="json", exclude_defaults=True),
            "receipts": settings_of(self.receipts, log=LOG_NAME, auditor=AUDITOR_NAME),
            "inference": {"models": str(models.resolve()), "model": model},
        }
        served = [lane for lane, settings in lanes.items() if settings.gateway]
        if gateway is not None and served:
            sections["gateway"] = _gateway(self, served[0], *gateway)
        for lane, settings in lanes.items():
            sections[f"lanes.{lane}"] = settings.model_dump(mode="json", exclude_none=True)
        self.settings.write_text(_toml(sections))


def _storage(files: StackFiles, endpoint: str) -> Mapping[str, object]:
    return {
        "bucket": IMAGE_BUCKET,
        "vault": VAULT_BUCKET,
        "keyring": str(files.keyring),
        "name_key": str(files.name_key),
        "endpoint": endpoint,
        "ca": str(files.identities / "ca.crt"),
        "tokens": str(files.tokens),
    }


def _gateway(files: StackFiles, lane: Lane, host: str, port: int) -> Mapping[str, object]:
    return {
        "lane": lane,
        "listen_host": host,
        "listen_port": port,
        "certificate": str(files.identities / f"{GATEWAY}.crt"),
        "certificate_key": str(files.identities / f"{GATEWAY}.key"),
        "session_key": str(files.session_key),
    }


def _toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Return TOML of flat sections; strings, numbers and lists of them are written as in JSON."""
    lines = []
    for section, entries in sections.items():
        lines += [f"\n[{section}]"] if section else []
        lines += [f"{name} = {json.dumps(value)}" for name, value in entries.items()]
    return "\n".join(lines) + "\n"
