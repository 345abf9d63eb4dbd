"""Settings of a local bucket server for tests."""

from pathlib import Path

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.gcs_emulator.authentication import issue_token
from erasestream.pipeline.devstack.gcs_emulator.configuration import ReportedConfiguration
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.sinks.buckets.access_policy import IMAGES, VAULT, Action, Role, Rule

OPEN = "open"
"""A bucket beside the project's own, in which one role may do everything."""
OPEN_RULES = (Rule(Role.ROTATOR, frozenset(Action)),)
BLIND = "blind"
"""A bucket with the rights of the vault, except that only the auditor may list."""
BLIND_RULES = tuple(
    rule if rule.role == Role.AUDITOR else rule._replace(actions=rule.actions - {Action.LIST})
    for rule in VAULT
)

PUBLIC = "public"
"""A bucket with the rights of the vault that is public and cannot forget."""
PUBLIC_REPORT = ReportedConfiguration(
    members={
        "iamConfiguration": {
            "publicAccessPrevention": "inherited",
            "uniformBucketLevelAccess": {"enabled": False},
        },
        "versioning": {"enabled": True},
        "softDeletePolicy": {"retentionDurationSeconds": "604800"},
        "retentionPolicy": {"retentionPeriod": "86400"},
        "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]},
        "defaultEventBasedHold": True,
        "objectRetention": {"mode": "Enabled"},
    },
    bindings=(
        {"role": "roles/storage.objectViewer", "members": ["allUsers", "user:a@example.com"]},
        {"role": "roles/storage.admin", "members": ["allAuthenticatedUsers"]},
    ),
)


def settings_in(folder: Path, authority: CertificateAuthority) -> BucketSettings:
    """Return settings of a server that keeps everything in `folder`."""
    authority.issue_server("bucket", folder / "identities")
    for role in Role:
        issue_token(folder / "tokens", role)
    return BucketSettings(
        host="127.0.0.1",
        port=0,
        port_file=folder / "port",
        certificate=folder / "identities" / "bucket.crt",
        key=folder / "identities" / "bucket.key",
        data=folder / "data",
        tokens=folder / "tokens",
        buckets={
            "images": IMAGES,
            "vault": VAULT,
            OPEN: OPEN_RULES,
            BLIND: BLIND_RULES,
            PUBLIC: VAULT,
        },
        reported={PUBLIC: PUBLIC_REPORT},
        faults=folder / "faults.json",
    )
