"""Attempts at what a role needs from a bucket, on names that no object has.

Cloud Storage is not asked (testIamPermissions): rights below a prefix are conditions on the
names of objects, and the bucket's answer leaves them out.  Nothing is created, read or deleted.
"""

from typing import assert_never

from google.cloud.storage import Bucket

from erasestream.schemas.errors import AlreadyExists, NotFound
from erasestream.sinks.buckets.access_policy import Action
from erasestream.sinks.buckets.bucket_privacy import POLICY_VERSION

NAME = "probe"
"""Follows the prefix of a rule; no key, marker or picture is called that."""
NO_GENERATION = 1
"""No object has this generation: Cloud Storage counts in microseconds since 1970."""

Granted = (NotFound, AlreadyExists)
"""Answers to an attempt that is permitted: no such object, no such generation.

Permissions are checked before both, and to one who may not list, an absent object is denied.
"""


def attempt(bucket: Bucket, action: Action, prefix: str, **request: object) -> None:
    """Attempt an action on a name below the prefix.  Raises the client's errors."""
    blob = bucket.blob(prefix + NAME)
    match action:
        case Action.CREATE:
            blob.upload_from_string(b"", if_generation_match=NO_GENERATION, **request)
        case Action.READ:
            blob.reload(**request)
        case Action.DELETE:
            blob.delete(**request)
        case Action.LIST:
            next(bucket.list_blobs(prefix=blob.name, max_results=1, **request).pages)
        case Action.CONFIGURATION:
            bucket.reload(**request)
        case Action.POLICY:
            bucket.get_iam_policy(requested_policy_version=POLICY_VERSION, **request)
        case _:
            assert_never(action)
