"""Create a master key in Cloud KMS, and verify that it destroys its versions in time.

Without a duration of its own a key keeps each version for 30 days after its destruction was asked
for.  The duration is set when the key is created, and never changes; a day is the shortest.
"""

from datetime import timedelta
from typing import Any

from google.api_core.exceptions import AlreadyExists
from google.cloud import kms_v1

from erasestream.schemas.errors import Refused
from erasestream.sinks.keys.cloud_kms_client import TIMEOUT_S, KmsSettings, open_client, translated

_ENCRYPTS = kms_v1.CryptoKey.CryptoKeyPurpose.ENCRYPT_DECRYPT


def create_key(settings: KmsSettings, *, destroyed_within: timedelta) -> None:
    """Create the key with its first version.  Raises `Refused` if there is one."""
    ring, _, name = settings.key.partition("/cryptoKeys/")
    with open_client(settings) as client, translated():
        wanted = {"purpose": _ENCRYPTS, "destroy_scheduled_duration": destroyed_within}
        request = {"parent": ring, "crypto_key_id": name, "crypto_key": wanted}
        try:
            client.create_crypto_key(request, timeout=TIMEOUT_S, retry=None)
        except AlreadyExists:
            raise Refused("storage.kms_key: there is such a key; it was not changed") from None


def verify_key(settings: KmsSettings, *, destroyed_within: timedelta) -> None:
    """Verify that the key wraps, and is its own.  Raises `Refused` if it destroys too late."""
    with open_client(settings) as client, translated():
        key: Any = client.get_crypto_key({"name": settings.key}, timeout=TIMEOUT_S, retry=None)
    if key.purpose != _ENCRYPTS or key.import_only:
        raise Refused("storage.kms_key: not a key that encrypts and was made by Cloud KMS")
    if key.destroy_scheduled_duration > destroyed_within:
        raise Refused(
            f"storage.kms_key: a version is destroyed {key.destroy_scheduled_duration} after that "
            f"was asked for, which is more than rotation.destroyed_within ({destroyed_within}); "
            "a key never changes its duration: create another, or allow more"
        )
