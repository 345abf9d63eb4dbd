"""Policy, ACLs and malformed requests; the contract of `tests/buckets` has the rest."""

from typing import Any
from urllib.parse import quote

import pytest

from erasestream.sinks.buckets.access_policy import Role
from tests.pipeline.devstack.gcs_emulator.conftest import OBJECTS, put


def test_the_bucket_reports_that_it_is_private(served: Any) -> None:
    """Public access prevention, uniform access, no versions, no soft delete: for the auditor."""
    path = "/storage/v1/b/images"
    report = served.call("GET", path, Role.AUDITOR).json()
    assert report["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert report["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    assert report["versioning"] == {"enabled": False}
    assert report["softDeletePolicy"]["retentionDurationSeconds"] == "0"
    members = {
        m
        for b in served.call("GET", f"{path}/iam", Role.AUDITOR).json()["bindings"]
        for m in b["members"]
    }
    assert members == {"role:sink", "role:reader", "role:eraser", "role:auditor"}
    for role in (Role.READER, Role.ROTATOR, Role.KEYS):
        assert served.call("GET", path, role).status_code == 403
        assert served.call("GET", f"{path}/iam", role).status_code == 403


@pytest.mark.parametrize("path", ["/acl", "/defaultObjectAcl", "/o/x/acl", "/acl/allUsers"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_every_acl_request_is_refused(served: Any, path: str, method: str) -> None:
    assert served.call(method, f"/storage/v1/b/open{path}").status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "/storage/v1/b/open"), ("PUT", "/storage/v1/b/open/iam"), ("POST", "/storage/v1/b"),
     ("DELETE", "/storage/v1/b/open"), ("POST", f"{OBJECTS}/x/rewriteTo/b/open/o/y"),
     ("PATCH", f"{OBJECTS}/x"), ("POST", f"{OBJECTS}/x/compose")],
)  # fmt: skip
def test_no_request_changes_a_policy_or_copies_an_object(
    served: Any, method: str, path: str
) -> None:
    for role in Role:
        assert served.call(method, path, role, json={}).status_code in {404, 405}


DIGITS = "9" * 5000
"""Python refuses to read as many."""


@pytest.mark.parametrize("number", [DIGITS, "-1", "1e3", "\N{ARABIC-INDIC DIGIT ONE}", " 1", ""])
def test_a_malformed_number_is_a_bad_request(served: Any, name: str, number: str) -> None:
    """In every parameter and header that has one."""
    put(served, name)
    path = f"{OBJECTS}/{quote(name, safe='')}"
    for method, at in (
        ("GET", f"{OBJECTS}?maxResults="),
        ("DELETE", f"{path}?ifGenerationMatch="),
        ("GET", "/storage/v1/b/open/iam?optionsRequestedPolicyVersion="),
    ):
        assert served.call(method, at + quote(number)).status_code == 400, at
    assert put(served, f"{name}-2", query=f"&ifGenerationMatch={quote(number)}").status_code == 400
    media = f"/download{path}?alt=media"
    for span in (f"bytes={number}-1", f"bytes=0-{number}x", "bytes=1-0"):
        headers = {"Range": span.encode("utf-8")}
        assert served.call("GET", media, headers=headers).status_code == 400, span
    assert served.call("GET", media).status_code == 200
