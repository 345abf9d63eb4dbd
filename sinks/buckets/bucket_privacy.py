"""Configuration that a bucket must have before anything is kept in it: private, and forgetful.

Rules, all of them; a setting that the bucket does not report is a deviation if its default is one:

* Public access prevention is enforced by the bucket itself (`inherited` depends on an
  organization), access is uniform, and no binding names `allUsers` or `allAuthenticatedUsers`.
* A deleted object is gone: no soft delete, no versioning, no retention policy, no default hold, and
  no retention times of single objects.

Not seen here: holds on single objects, noncurrent versions from before versioning was switched off,
and objects that were soft-deleted under an earlier policy.
"""

from collections.abc import Iterator
from typing import NamedTuple

from google.cloud.storage import Bucket

POLICY_VERSION = 3
"""A policy with conditions, as ours is, cannot be read as an earlier version."""
ENFORCED = "enforced"
PUBLIC = frozenset({"allUsers", "allAuthenticatedUsers"})

REPLACE = (
    "it cannot be undone, use another bucket: `gcloud storage buckets create gs://NAME"
    " --uniform-bucket-level-access --public-access-prevention --soft-delete-duration=0`"
)


class Grant(NamedTuple):
    """A role that the bucket's IAM policy grants to a member."""

    role: str
    member: str


class BucketConfiguration(NamedTuple):
    """The part of a bucket's configuration that decides who reaches it and how long it keeps."""

    public_access_prevention: str | None
    has_uniform_access: bool
    grants: frozenset[Grant]
    soft_delete_s: int | None
    """None: not reported, though Cloud Storage keeps for 7 days by default."""
    has_versioning: bool
    retention_s: int | None
    is_retention_locked: bool
    has_default_hold: bool
    has_object_retention: bool


def read_configuration(bucket: Bucket, **request: object) -> BucketConfiguration:
    """Read a bucket's configuration and IAM policy.  Raises the client's errors."""
    bucket.reload(**request)
    policy = bucket.get_iam_policy(requested_policy_version=POLICY_VERSION, **request)
    access = bucket.iam_configuration
    return BucketConfiguration(
        public_access_prevention=access.get("publicAccessPrevention"),
        has_uniform_access=bool(access.uniform_bucket_level_access_enabled),
        grants=frozenset(
            Grant(binding["role"], member)
            for binding in policy.bindings
            for member in binding.get("members", ())
        ),
        soft_delete_s=bucket.soft_delete_policy.retention_duration_seconds,
        has_versioning=bool(bucket.versioning_enabled),
        retention_s=bucket.retention_period,
        is_retention_locked=bool(bucket.retention_policy_locked),
        has_default_hold=bool(bucket.default_event_based_hold),
        has_object_retention=bool(bucket.object_retention_mode),
    )


def deviations(name: str, found: BucketConfiguration) -> Iterator[str]:
    """Yield each deviation of a bucket from the rules, with the command that corrects it."""
    is_retained, is_locked = found.retention_s is not None, found.is_retention_locked
    for is_wrong, sentence, option in (
        (
            found.public_access_prevention != ENFORCED,
            "public access prevention is not enforced",
            "--public-access-prevention",
        ),
        (
            not found.has_uniform_access,
            "access is not uniform",
            "--uniform-bucket-level-access",
        ),
        (
            found.soft_delete_s != 0,
            "soft delete keeps deleted objects",
            "--clear-soft-delete",
        ),
        (
            found.has_versioning,
            "versioning keeps deleted objects",
            "--no-versioning",
        ),
        (
            is_retained and not is_locked,
            "a retention policy forbids deleting",
            "--clear-retention-period",
        ),
        (
            found.has_default_hold,
            "new objects are put on hold",
            "--no-default-event-based-hold",
        ),
    ):
        if is_wrong:
            yield f"{sentence}: `gcloud storage buckets update gs://{name} {option}`"
    for role, member in sorted(grant for grant in found.grants if grant.member in PUBLIC):
        revoke = f"gcloud storage buckets remove-iam-policy-binding gs://{name}"
        yield f"{member} has {role}: `{revoke} --member={member} --role={role} --all`"
    if is_retained and is_locked:
        yield f"a locked retention policy forbids deleting: {REPLACE}"
    if found.has_object_retention:
        yield f"objects can have a retention time of their own: {REPLACE}"
