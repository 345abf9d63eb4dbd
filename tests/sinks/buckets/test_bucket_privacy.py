"""Refusal of a bucket that is public, could become so, or cannot forget."""

from typing import Any

import pytest

from erasestream.schemas.errors import UnsafeBucket
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.bucket_privacy import BucketConfiguration, Grant, deviations

PRIVATE = BucketConfiguration(
    public_access_prevention="enforced",
    has_uniform_access=True,
    grants=frozenset({Grant("roles/storage.legacyBucketOwner", "projectOwner:example")}),
    soft_delete_s=0,
    has_versioning=False,
    retention_s=None,
    is_retention_locked=False,
    has_default_hold=False,
    has_object_retention=False,
)


def test_a_private_bucket_that_forgets_has_no_deviation() -> None:
    assert list(deviations("b", PRIVATE)) == []


@pytest.mark.parametrize(
    ("change", "sentence", "command"),
    [
        ({"public_access_prevention": "inherited"}, "not enforced", "--public-access-prevention"),
        ({"public_access_prevention": None}, "not enforced", "--public-access-prevention"),
        ({"has_uniform_access": False}, "not uniform", "--uniform-bucket-level-access"),
        ({"soft_delete_s": 604_800}, "soft delete keeps", "--clear-soft-delete"),
        ({"soft_delete_s": None}, "soft delete keeps", "--clear-soft-delete"),
        ({"has_versioning": True}, "versioning keeps", "--no-versioning"),
        ({"retention_s": 60}, "a retention policy forbids", "--clear-retention-period"),
        ({"has_default_hold": True}, "put on hold", "--no-default-event-based-hold"),
    ],
)
def test_each_deviation_has_a_sentence_and_the_command_that_corrects_it(
    change: dict[str, Any], sentence: str, command: str
) -> None:
    (found,) = deviations("b", PRIVATE._replace(**change))
    assert sentence in found
    assert f"`gcloud storage buckets update gs://b {command}`" in found


@pytest.mark.parametrize("member", ["allUsers", "allAuthenticatedUsers"])
def test_a_binding_of_everyone_is_named_with_its_role(member: str) -> None:
    public = PRIVATE.grants | {Grant("roles/x", member)}
    (found,) = deviations("b", PRIVATE._replace(grants=public))
    revoke = "gcloud storage buckets remove-iam-policy-binding gs://b"
    assert found == f"{member} has roles/x: `{revoke} --member={member} --role=roles/x --all`"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"retention_s": 60, "is_retention_locked": True}, "a locked retention policy forbids"),
        ({"has_object_retention": True}, "a retention time of their own"),
    ],
)
def test_a_bucket_that_cannot_be_corrected_is_to_be_replaced(
    change: dict[str, Any], sentence: str
) -> None:
    (found,) = deviations("b", PRIVATE._replace(**change))
    assert sentence in found
    assert "use another bucket: `gcloud storage buckets create gs://NAME " in found


def test_a_public_bucket_that_cannot_forget_is_refused_with_all_deviations(stack: Any) -> None:
    """As the real client reads them: in one message, so that one start shows all of them."""
    with pytest.raises(UnsafeBucket) as caught:
        stack.store("public", Role.SINK).verify_private()
    text = str(caught.value)
    for sign in (
        "prevention", "uniform", "soft delete", "versioning", "retention policy", "hold",
        "retention time", "allUsers has roles/storage.objectViewer",
        "allAuthenticatedUsers has roles/storage.admin",
    ):  # fmt: skip
        assert sign in text, sign
    assert "user:a@example.com" not in text


def test_a_bucket_of_our_own_is_private(stack: Any) -> None:
    for bucket in ("images", "vault"):
        stack.store(bucket, Role.AUDITOR).verify_private()
