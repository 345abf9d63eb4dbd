"""All files of a development stack: certificates, tokens, keys and settings.

Created once and never changed.  In the folder, which only its owner can enter:

    authority/      the CA with its key; no stage gets this folder
    identities/     `ca.crt`, and certificate and key of each role and server
    tokens/         the bearer token of each role with access to a bucket
    keyring/        the master keys of the vault
    name.key        the key from which object names derive
    bucket.json     settings of the local bucket
    erasestream.toml    settings of all stages and commands
"""

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from erasestream.pipeline.devstack.certificate_authority import LOCAL_HOSTS, CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.authentication import issue_token
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.pipeline.devstack.private_folder import make_private
from erasestream.pipeline.settings import LaneSettings, LifetimeSettings
from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.sinks.buckets.access_policy import IMAGES, VAULT, Role
from erasestream.sinks.images.object_names import NAME_KEY_BYTES
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.topics.catalog.catalog import Catalog, Durability, LaneSpec

IMAGE_BUCKET = "images"
VAULT_BUCKET = "vault"
SETTINGS_FILE = "erasestream.toml"
BROKER = "broker"
BUCKET = "bucket"
BUCKET_HOST = "127.0.0.2"
"""The bucket's own address on the loopback interface: its certificate names no broker's."""
ONE_COPY = Durability(replication=1, min_insync=1)
FEW_PARTITIONS = 4
"""Of the topics that lanes share or do not size: one broker of a development stack has them all."""


def now() -> datetime:
    """Return the current time, for certificates."""
    return datetime.now(UTC)


class StackFiles:
    """The folder, and the paths in it."""

    def __init__(self, directory: Path) -> None:
        self.directory: Path = directory.resolve()
        self.identities: Path = self.directory / "identities"
        self.tokens: Path = self.directory / "tokens"
        self.keyring: Path = self.directory / "keyring"
        self.name_key: Path = self.directory / "name.key"
        self.settings: Path = self.directory / SETTINGS_FILE
        self.bucket_settings: Path = self.directory / "bucket.json"
        self.logs: Path = self.directory / "logs"

    def create_identities(
        self,
        lanes: Iterable[Lane],
        *,
        broker_hosts: tuple[str, ...] = LOCAL_HOSTS,
        bucket_hosts: tuple[str, ...] = (BUCKET_HOST,),
    ) -> None:
        """Issue certificates for all roles, and for both servers under hosts of their own.

        Raises `Refused` if they share one: either server could pass for the other.
        """
        if shared := {*broker_hosts} & {*bucket_hosts}:
            raise Refused(f"broker and bucket need names of their own, both have {min(shared)}")
        make_private(self.directory)
        self.identities.mkdir(mode=0o700)
        authority = CertificateAuthority.create(self.directory / "authority", now=now)
        authority.issue_broker(BROKER, self.identities, hosts=broker_hosts)
        authority.issue_server(BUCKET, self.identities, hosts=bucket_hosts)
        catalog = Catalog.build(tuple(LaneSpec(name=lane) for lane in lanes))
        for role in catalog.roles:
            authority.issue_role(role, self.identities)

    def create_secrets(self) -> None:
        """Create tokens, the first master key and the name key."""
        for role in Role:
            issue_token(self.tokens, role)
        LocalKeyring.create(self.keyring)
        descriptor = os.open(self.name_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(NAME_KEY_BYTES))

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
        )
        self.bucket_settings.write_text(settings.model_dump_json(indent=1))

    def write_settings(
        self,
        *,
        bootstrap: tuple[str, ...],
        durability: Durability = ONE_COPY,
        endpoint: str,
        lanes: Mapping[Lane, LaneSettings],
        lifetimes: LifetimeSettings,
        models: Path,
        model: str,
    ) -> None:
        """Write the settings of all stages and commands."""
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
            "storage": {
                "bucket": IMAGE_BUCKET,
                "vault": VAULT_BUCKET,
                "keyring": str(self.keyring),
                "name_key": str(self.name_key),
                "endpoint": endpoint,
                "ca": str(self.identities / "ca.crt"),
                "tokens": str(self.tokens),
            },
            "inference": {"models": str(models.resolve()), "model": model},
        }
        for lane, settings in lanes.items():
            sections[f"lanes.{lane}"] = settings.model_dump(mode="json", exclude_none=True)
        self.settings.write_text(_toml(sections))


def _toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Return TOML of flat sections; strings, numbers and lists of them are written as in JSON."""
    lines = []
    for section, entries in sections.items():
        lines += [f"\n[{section}]"] if section else []
        lines += [f"{name} = {json.dumps(value)}" for name, value in entries.items()]
    return "\n".join(lines) + "\n"
