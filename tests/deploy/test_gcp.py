"""Terraform of `deploy/gcp`: the buckets, keys and identities that the pipeline demands."""

import re
from collections.abc import Iterator
from typing import Any

import hcl2
import pytest
import yaml

from erasestream.sinks.buckets.access_policy import Role
from tests.deploy.gcp_access import PATH, document
from tests.paths import ROOT

FOLDER = ROOT / "deploy/gcp"
FILES = sorted(FOLDER.glob("*.tf"))
TEXT = "\n".join(path.read_text() for path in FILES)

Block = dict[str, Any]


def blocks(kind: str) -> Iterator[tuple[str, str, Block]]:
    """Yield type, name and content of each block of a kind."""
    for path in FILES:
        for entry in hcl2.loads(path.read_text()).get(kind, ()):
            for of_type, named in entry.items():
                if isinstance(named, dict):
                    for name, block in named.items():
                        yield of_type.strip('"'), name.strip('"'), block


RESOURCES = list(blocks("resource"))


def of_type(wanted: str) -> dict[str, Block]:
    return {name: block for kind, name, block in RESOURCES if kind == wanted}


def test_rights_on_the_buckets_are_those_of_the_access_policy() -> None:
    """After a change of the policy: `python -m tests.deploy.gcp_access`."""
    assert PATH.read_text() == document()


def test_both_buckets_are_private_and_forget() -> None:
    (bucket,) = of_type("google_storage_bucket").values()
    assert bucket["for_each"] == "${local.buckets}"
    assert bucket["public_access_prevention"] == '"enforced"'
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["soft_delete_policy"][0]["retention_duration_seconds"] == 0
    assert bucket["versioning"][0]["enabled"] is False
    assert bucket["default_event_based_hold"] is False
    assert bucket["enable_object_retention"] is False
    assert not {"retention_policy", "lifecycle_rule", "logging", "website"} & bucket.keys()
    assert bucket["encryption"][0]["default_kms_key_name"]


def test_no_public_path_leads_to_them() -> None:
    """The bucket's own filter knows one network; the perimeter has no way in."""
    (bucket,) = of_type("google_storage_bucket").values()
    (address_filter,) = bucket["ip_filter"]
    assert address_filter["mode"] == '"Enabled"'
    assert address_filter["public_network_source"][0]["allowed_ip_cidr_ranges"] == []
    (perimeter,) = of_type("google_access_context_manager_service_perimeter").values()
    (status,) = perimeter["status"]
    assert status["restricted_services"] == [
        '"storage.googleapis.com"',
        '"cloudkms.googleapis.com"',
    ]
    assert not {"access_levels", "ingress_policies", "egress_policies"} & status.keys()


def test_every_master_key_has_an_explicit_time_until_it_is_destroyed() -> None:
    keys = of_type("google_kms_crypto_key")
    assert set(keys) == {"grants", "storage"}
    for key in keys.values():
        assert key["destroy_scheduled_duration"] == '"86400s"'
        assert key["lifecycle"][0]["prevent_destroy"] is True


@pytest.mark.parametrize(
    ("key", "role", "members"),
    [
        ("grants", "roles/cloudkms.cryptoKeyEncrypterDecrypter", {"sink", "rotator"}),
        ("grants", "roles/cloudkms.cryptoKeyDecrypter", {"reader"}),
        ("grants", "versions", {"sink", "reader", "rotator"}),
        ("grants", "rotation", {"rotator"}),
    ],
)
def test_a_master_key_is_used_by_its_roles_only(key: str, role: str, members: set[str]) -> None:
    if "/" not in role:
        role = f"${{google_project_iam_custom_role.{role}.id}}"
    found = [
        binding["members"]
        for binding in of_type("google_kms_crypto_key_iam_binding").values()
        if binding["role"].strip('"') == role
        and binding["crypto_key_id"] == f"${{google_kms_crypto_key.{key}.id}}"
    ]
    assert [set(re.findall(r'local\.member\["(\w+)"\]', " ".join(each))) for each in found] == [
        members
    ]


def test_no_role_restores_a_version_or_enables_one() -> None:
    """No stage brings back a version that the rotator destroyed."""
    roles = of_type("google_project_iam_custom_role")
    keys = {
        permission.strip('"').removeprefix("cloudkms.")
        for role in ("rotation", "versions")
        for permission in roles[role]["permissions"]
    }
    assert keys == {
        "cryptoKeyVersions.create",
        "cryptoKeyVersions.destroy",
        "cryptoKeyVersions.get",
        "cryptoKeyVersions.list",
        "cryptoKeys.get",
    }


def test_every_role_is_a_service_account_of_its_own() -> None:
    """Named as the manifests name the accounts of the pods."""
    (workloads,) = (
        entry["workloads"]
        for path in FILES
        for entry in hcl2.loads(path.read_text()).get("locals", ())
        if "workloads" in entry
    )
    names = {role: name.strip('"') for role, name in workloads.items() if role in set(Role)}
    assert set(names) == set(Role)
    assert len(set(names.values())) == len(names)
    manifests = yaml.safe_load_all((ROOT / "deploy/kubernetes/sink.yaml").read_text())
    (pod,) = (m["spec"]["template"]["spec"] for m in manifests if "template" in m.get("spec", {}))
    assert pod["serviceAccountName"] == names["sink"]


def test_no_role_is_wider_than_its_bucket_or_key() -> None:
    """No role on the whole project, no basic role, no downloaded key, no public member."""
    kinds = {kind for kind, _, _ in RESOURCES}
    assert not {kind for kind in kinds if kind.startswith("google_project_iam_")} - {
        "google_project_iam_custom_role"
    }
    assert "google_service_account_key" not in kinds
    for word in ("allUsers", "allAuthenticatedUsers", "roles/owner", "roles/editor", ".admin"):
        assert word not in TEXT


def test_every_muted_finding_has_a_reason() -> None:
    muted = re.findall(r"#checkov:skip=([^\n]*)", TEXT)
    assert muted
    assert all(re.fullmatch(r"CKV_GCP_\d+:.{20,}", each) for each in muted)
