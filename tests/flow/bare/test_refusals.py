"""A stage that cannot start names what is missing in one sentence, and ends with its status."""

import shutil
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.runtime.runner import EX_CONFIG, EX_OK, EX_UNAVAILABLE
from erasestream.schemas.errors import SENTENCES, Code
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.acl import Operation, Resource, Right
from erasestream.topics.catalog.roles import INFERENCE, ROUTER, SINK, Role
from erasestream.topics.catalog.topic_names import RETAINED, consent_of, cutouts_of, uploads_of
from erasestream.topics.kafka.admin import Admin
from tests.flow.health import status
from tests.flow.pipeline_harness import BULK, SHOP, STAGES, PipelineHarness
from tests.flow.revoked_rights import without_rights

ROLES: Mapping[str, Role] = {"infer": INFERENCE, "route": ROUTER, "sink": SINK}
SHORT_DEADLINE = {"ERASESTREAM_STAGE__READY_DEADLINE": "PT3S"}
DEADLINE = {"ERASESTREAM_STAGE__READY_DEADLINE": "PT20S"}
"""Long enough to meet the refusal on a busy machine; most end the stage at once."""
NOWHERE = {"ERASESTREAM_KAFKA__BOOTSTRAP_SERVERS": '["127.0.0.1:1"]'}


def assert_refused(
    flow: PipelineHarness,
    code: Code,
    words: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Assert that these stages do not start, and that each reports why, with its words."""
    for stage in words:
        flow.stack.start_stage(stage, **DEADLINE, **(environment or {}))
    for stage, word in words.items():
        assert flow.exit_code(stage) == EX_CONFIG, flow.stack.log_of(stage).read_text()
        (ended,) = flow.lines(stage, "ended")
        assert ended["code"] == code
        assert str(ended["reason"]).startswith(SENTENCES[code])
        assert word in str(ended["reason"])


def test_right_missing(bare: PipelineHarness) -> None:
    """The sentence names the role and the topic."""
    lacking = {
        "infer": Right(INFERENCE, Operation.WRITE, Resource.TOPIC, cutouts_of(SHOP)),
        "route": Right(ROUTER, Operation.READ, Resource.TOPIC, consent_of(BULK)),
        "sink": Right(SINK, Operation.READ, Resource.TOPIC, RETAINED),
    }
    words = {stage: f"role {right.role}, topic {right.name}" for stage, right in lacking.items()}
    with without_rights(Admin(bare.stack.admin()), lacking.values()):
        assert_refused(bare, Code.NOT_AUTHORIZED, words)


def test_group_right_missing(bare: PipelineHarness) -> None:
    lacking = [Right(role, Operation.READ, Resource.GROUP, role) for role in ROLES.values()]
    words = {stage: f"role {role}, group {role}" for stage, role in ROLES.items()}
    with without_rights(Admin(bare.stack.admin()), lacking):
        assert_refused(bare, Code.NOT_AUTHORIZED, words)


def test_topic_missing(bare: PipelineHarness) -> None:
    admin = Admin(bare.stack.admin())
    gone = [RETAINED, uploads_of(BULK)]
    with admin.use() as client:
        for future in client.delete_topics(gone).values():
            future.result(20)
    try:
        assert_refused(
            bare,
            Code.MISSING_TOPIC,
            {"infer": uploads_of(BULK), "route": uploads_of(BULK), "sink": RETAINED},
        )
    finally:
        provision(admin, bare.stack.catalog(), show=lambda _plan: None)


@pytest.mark.parametrize("which", ["BUCKET", "VAULT"])
def test_bucket_missing(bare: PipelineHarness, which: str) -> None:
    environment = {f"ERASESTREAM_STORAGE__{which}": "not-there"}
    assert_refused(bare, Code.MISSING_BUCKET, {"sink": "not-there"}, environment)


def test_bucket_of_another_authority(bare: PipelineHarness, tmp_path: Path) -> None:
    """A stage refuses a bucket whose certificate is signed by another authority."""
    CertificateAuthority.create(tmp_path / "authority", now=lambda: datetime.now(UTC))
    environment = {"ERASESTREAM_STORAGE__CA": str(tmp_path / "authority" / "ca.crt")}
    assert_refused(bare, Code.CERTIFICATE_REFUSED, {"sink": ""}, environment)


def test_model_missing(bare: PipelineHarness) -> None:
    environment = {"ERASESTREAM_INFERENCE__MODEL": "not-there"}
    assert_refused(bare, Code.MISSING_MODEL, {"infer": "not-there"}, environment)


def test_model_changed(bare: PipelineHarness, tmp_path: Path) -> None:
    """A model that does not match its manifest is not loaded."""
    inference = bare.settings.inference
    assert inference
    models = shutil.copytree(inference.models, tmp_path / "models")
    (model,) = models.rglob("*.onnx")
    model.chmod(0o600)
    model.write_bytes(model.read_bytes() + b"\0")
    environment = {"ERASESTREAM_INFERENCE__MODELS": str(models)}
    assert_refused(bare, Code.MODEL_REFUSED, {"infer": ""}, environment)


def test_certificate_missing(bare: PipelineHarness, tmp_path: Path) -> None:
    """The sentence names the missing certificate or key file of the role."""
    identities = shutil.copytree(bare.stack.files.identities, tmp_path / "identities")
    missing = {"infer": "inference.crt", "route": "router.key", "sink": "sink.key"}
    for name in missing.values():
        (identities / name).unlink()
    environment = {"ERASESTREAM_KAFKA__IDENTITIES": str(identities)}
    assert_refused(bare, Code.MISSING_CERTIFICATE, missing, environment)


def test_broker_of_another_authority(bare: PipelineHarness, tmp_path: Path) -> None:
    """A stage refuses a broker whose certificate the role's CA did not sign."""
    identities = shutil.copytree(bare.stack.files.identities, tmp_path / "identities")
    authority = CertificateAuthority.create(tmp_path / "authority", now=lambda: datetime.now(UTC))
    authority.publish(identities)
    environment = {"ERASESTREAM_KAFKA__IDENTITIES": str(identities)}
    words = {stage: f"role {role}" for stage, role in ROLES.items()}
    assert_refused(bare, Code.CERTIFICATE_REFUSED, words, environment)


def test_broker_unavailable(bare: PipelineHarness) -> None:
    """Without a broker, a stage waits until its deadline, logs it at most once, and ends."""
    for stage in STAGES:
        bare.stack.start_stage(stage, **SHORT_DEADLINE, **NOWHERE)
    for stage in STAGES:
        assert bare.exit_code(stage) == EX_UNAVAILABLE, bare.stack.log_of(stage).read_text()
        (ended,) = bare.lines(stage, "ended")
        assert ended["code"] == Code.BROKER_UNAVAILABLE
        assert len(bare.lines(stage, "waiting")) <= 1


def test_sigterm_while_waiting_for_the_broker(bare: PipelineHarness) -> None:
    """A stage that receives SIGTERM before it is ready ends cleanly."""
    for stage in STAGES:
        bare.stack.start_stage(stage, **NOWHERE)
    for stage in STAGES:
        bare.wait_for_event(stage, "broker_trouble")
        assert status(bare, stage, "/healthz") == 200
        assert status(bare, stage, "/readyz") == 503
        bare.stack.stage(stage).send(signal.SIGTERM)
    for stage in STAGES:
        assert bare.exit_code(stage) == EX_OK, bare.stack.log_of(stage).read_text()
