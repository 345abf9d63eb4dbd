"""Configuration and IAM policy that a local bucket reports.

By default private and forgetful, as the pipeline demands of every bucket.  Settings may make a
bucket report another configuration, so that a refusal can be tried.  Nothing follows from it: with
soft delete, versions or a retention policy in its report, a local bucket still deletes at once.
"""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, JsonValue

from erasestream.sinks.buckets.access_policy import Rule

PRIVATE: Mapping[str, JsonValue] = {
    "iamConfiguration": {
        "publicAccessPrevention": "enforced",
        "uniformBucketLevelAccess": {"enabled": True},
    },
    "versioning": {"enabled": False},
    "softDeletePolicy": {"retentionDurationSeconds": "0"},
    "defaultEventBasedHold": False,
}


class ReportedConfiguration(BaseModel):
    """Deviations of a bucket's report from that of a private bucket; by default none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: dict[str, JsonValue] = {}
    """Members of the bucket resource; each replaces that of a private bucket."""
    bindings: tuple[dict[str, JsonValue], ...] = ()
    """Bindings of the IAM policy beside those that follow from the rules."""


def bucket_resource(name: str, reported: ReportedConfiguration) -> dict[str, JsonValue]:
    """Return a bucket's metadata."""
    return {
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "location": "LOCAL",
        "storageClass": "STANDARD",
        "metageneration": "1",
        **PRIVATE,
        **reported.members,
    }


def policy_resource(rules: Iterable[Rule], reported: ReportedConfiguration) -> dict[str, JsonValue]:
    """Return a bucket's IAM policy."""
    granted: list[JsonValue] = [
        {
            "role": f"local/{action}",
            "members": [f"role:{rule.role}"],
            "condition": {"title": "prefix", "expression": f"name.startsWith({rule.prefix!r})"},
        }
        for rule in rules
        for action in sorted(rule.actions)
    ]
    return {"kind": "storage#policy", "version": 3, "bindings": [*granted, *reported.bindings]}
