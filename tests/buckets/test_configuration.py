"""Configuration, IAM policy and access of buckets, as the real client meets them."""

import pytest
import requests
from google.api_core.exceptions import BadRequest
from google.cloud import storage

from erasestream.sinks.buckets.bucket_privacy import (
    POLICY_VERSION,
    deviations,
    read_configuration,
)
from tests.buckets.calls import ONCE, create, exists
from tests.buckets.servers import KEPT_S, LIFECYCLE_DAYS, Server


def test_the_bucket_is_private_and_forgets(bucket: storage.Bucket) -> None:
    assert list(deviations(bucket.name, read_configuration(bucket, **ONCE))) == []


def test_a_bucket_reports_all_by_which_it_keeps(server: Server) -> None:
    keeping = server.client.bucket(server.keeping)
    keeping.reload(**ONCE)
    assert keeping.versioning_enabled
    assert keeping.soft_delete_policy.retention_duration_seconds == KEPT_S
    assert keeping.retention_period == 1
    rules = [dict(rule) for rule in keeping.lifecycle_rules]
    assert rules == [{"action": {"type": "Delete"}, "condition": {"age": LIFECYCLE_DAYS}}]


def test_the_policy_has_members_and_roles(bucket: storage.Bucket) -> None:
    policy = bucket.get_iam_policy(requested_policy_version=POLICY_VERSION, **ONCE)
    assert policy.bindings
    assert all(binding["role"] and binding["members"] for binding in policy.bindings)


@pytest.mark.parametrize("path", ["", "/o", "/o/x", "/o/x?alt=media", "/iam"])
def test_an_anonymous_caller_is_refused(server: Server, bucket: storage.Bucket, path: str) -> None:
    url = f"{server.endpoint}/storage/v1/b/{bucket.name}{path}"
    with server.anonymous() as session:
        answer: requests.Response = session.get(url, timeout=30)
    assert answer.status_code == 401


def test_a_bucket_with_uniform_access_has_no_acls(bucket: storage.Bucket, name: str) -> None:
    blob = create(bucket, name)
    with pytest.raises(BadRequest):
        bucket.acl.reload(timeout=30)
    with pytest.raises(BadRequest):
        blob.make_public(timeout=30)
    with pytest.raises(BadRequest):
        create(bucket, f"{name}-2", predefined_acl="publicRead")
    assert not exists(bucket, f"{name}-2")
