"""A stage that lacks something says what, in one sentence, and ends with the right status."""

import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
from erasestream.topics.kafka.acl_bindings import binding_of, exactly
from erasestream.topics.kafka.admin import Admin
from tests.flow.pipeline_harness import BULK, SHOP, STAGES, PipelineHarness
from tests.flow.upload_batch import UploadBatch
from tests.flow.waiting import eventually

ROLES: Mapping[str, Role] = {"infer": INFERENCE, "route": ROUTER, "sink": SINK}
SHORT_DEADLINE = {"ERASESTREAM_STAGE__READY_DEADLINE": "PT3S"}
NOWHERE = {"ERASESTREAM_KAFKA__BOOTSTRAP_SERVERS": '["127.0.0.1:1"]'}


def assert_refused(
    flow: PipelineHarness,
    code: Code,
    words: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
) -> None:
    """These stages do not start, and each says in one sentence, with its words, why."""
    for stage in words:
        flow.stack.start_stage(stage, **SHORT_DEADLINE, **(environment or {}))
    for stage, word in words.items():
        assert flow.exit_code(stage) == EX_CONFIG, flow.stack.log_of(stage).read_text()
        (ended,) = (line for line in flow.lines(stage) if line["event"] == "ended")
        assert ended["code"] == code
        assert str(ended["reason"]).startswith(SENTENCES[code])
        assert word in str(ended["reason"])


@contextmanager
def without_rights(flow: PipelineHarness, rights: Iterable[Right]) -> Iterator[None]:
    """Rights are taken away for a while."""
    client = Admin(flow.stack.admin()).client
    bindings = [binding_of(right) for right in rights]
    for future in client.delete_acls([exactly(binding) for binding in bindings]).values():
        assert len(future.result(20)) == 1
    try:
        yield
    finally:
        for created in client.create_acls(bindings).values():
            created.result(20)


def test_right_missing(bare: PipelineHarness) -> None:
    """Without a right of its role: the sentence names role, operation and topic."""
    lacking = {
        "infer": Right(INFERENCE, Operation.WRITE, Resource.TOPIC, cutouts_of(SHOP)),
        "route": Right(ROUTER, Operation.READ, Resource.TOPIC, consent_of(BULK)),
        "sink": Right(SINK, Operation.READ, Resource.TOPIC, RETAINED),
    }
    words = {stage: f"role {right.role}, topic {right.name}" for stage, right in lacking.items()}
    with without_rights(bare, lacking.values()):
        assert_refused(bare, Code.NOT_AUTHORIZED, words)


def test_right_to_the_group_missing(bare: PipelineHarness) -> None:
    """Without the right to be a member of its group: the same."""
    lacking = [Right(role, Operation.READ, Resource.GROUP, role) for role in ROLES.values()]
    words = {stage: f"role {role}, group {role}" for stage, role in ROLES.items()}
    with without_rights(bare, lacking):
        assert_refused(bare, Code.NOT_AUTHORIZED, words)


def test_topic_missing(bare: PipelineHarness) -> None:
    """Without a topic: the sentence names it, and what to run."""
    admin = Admin(bare.stack.admin())
    gone = [RETAINED, uploads_of(BULK)]
    for future in admin.client.delete_topics(gone).values():
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
    """Without a bucket: the sentence names it."""
    environment = {f"ERASESTREAM_STORAGE__{which}": "not-there"}
    assert_refused(bare, Code.MISSING_BUCKET, {"sink": "not-there"}, environment)


def test_bucket_of_another_authority(bare: PipelineHarness, tmp_path: Path) -> None:
    """A bucket whose certificate another authority signed is not talked to."""
    CertificateAuthority.create(tmp_path / "authority", now=lambda: datetime.now(UTC))
    environment = {"ERASESTREAM_STORAGE__CA": str(tmp_path / "authority" / "ca.crt")}
    assert_refused(bare, Code.CERTIFICATE_REFUSED, {"sink": ""}, environment)


def test_model_missing(bare: PipelineHarness) -> None:
    """Without its model: the sentence names it, and what to run."""
    environment = {"ERASESTREAM_INFERENCE__MODEL": "not-there"}
    assert_refused(bare, Code.MISSING_MODEL, {"infer": "not-there"}, environment)


def test_model_changed(bare: PipelineHarness, tmp_path: Path) -> None:
    """A model that is not what its manifest says is not run."""
    inference = bare.settings.inference
    assert inference
    models = shutil.copytree(inference.models, tmp_path / "models")
    (model,) = models.rglob("*.onnx")
    model.chmod(0o600)
    model.write_bytes(model.read_bytes() + b"\0")
    environment = {"ERASESTREAM_INFERENCE__MODELS": str(models)}
    assert_refused(bare, Code.MODEL_REFUSED, {"infer": ""}, environment)


def test_certificate_missing(bare: PipelineHarness, tmp_path: Path) -> None:
    """Without the certificate or the key of its role: the sentence names the file."""
    identities = shutil.copytree(bare.stack.files.identities, tmp_path / "identities")
    missing = {"infer": "inference.crt", "route": "router.key", "sink": "sink.key"}
    for name in missing.values():
        (identities / name).unlink()
    environment = {"ERASESTREAM_KAFKA__IDENTITIES": str(identities)}
    assert_refused(bare, Code.MISSING_CERTIFICATE, missing, environment)


def test_broker_of_another_authority(bare: PipelineHarness, tmp_path: Path) -> None:
    """A broker that the role's own CA does not vouch for is not talked to."""
    identities = shutil.copytree(bare.stack.files.identities, tmp_path / "identities")
    authority = CertificateAuthority.create(tmp_path / "authority", now=lambda: datetime.now(UTC))
    authority.publish(identities)
    environment = {"ERASESTREAM_KAFKA__IDENTITIES": str(identities)}
    words = {stage: f"role {role}" for stage, role in ROLES.items()}
    assert_refused(bare, Code.CERTIFICATE_REFUSED, words, environment)


def test_broker_away(bare: PipelineHarness) -> None:
    """Without a broker a stage waits until its deadline, says so once, and ends."""
    for stage in STAGES:
        bare.stack.start_stage(stage, **SHORT_DEADLINE, **NOWHERE)
    for stage in STAGES:
        assert bare.exit_code(stage) == EX_UNAVAILABLE, bare.stack.log_of(stage).read_text()
        (ended,) = (line for line in bare.lines(stage) if line["event"] == "ended")
        assert ended["code"] == Code.BROKER_UNAVAILABLE
        assert len([line for line in bare.lines(stage) if line["event"] == "waiting"]) <= 1


def test_ended_while_it_waits(bare: PipelineHarness) -> None:
    """Asked to end before it could start, a stage ends cleanly."""
    for stage in STAGES:
        bare.stack.start_stage(stage, **NOWHERE)
    for stage in STAGES:
        bare.wait_for(stage, "broker_trouble")
        assert status(bare, stage, "/healthz") == 200
        assert status(bare, stage, "/readyz") == 503
        bare.stack.stage(stage).send(signal.SIGTERM)
    for stage in STAGES:
        assert bare.exit_code(stage) == EX_OK, bare.stack.log_of(stage).read_text()


def status(flow: PipelineHarness, stage: str, path: str) -> int:
    """What a stage's health port answers."""
    port = flow.wait_for(stage, "starting")["port"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_ended_at_work(fragile: PipelineHarness) -> None:
    """A stage that works is alive and ready; asked to end, it does, and says so."""
    for stage in STAGES:
        assert status(fragile, stage, "/healthz") == 200
        assert status(fragile, stage, "/readyz") == 200
        assert status(fragile, stage, "/") == 404
    tally = UploadBatch(fragile, keeper="ended-a", forgetter="ended-b", count=200)
    eventually("they are at work", lambda: tally.delivered().total() >= 1)
    for stage in STAGES:
        fragile.stack.stage(stage).send(signal.SIGTERM)
    for stage in STAGES:
        assert fragile.exit_code(stage) == EX_OK, fragile.stack.log_of(stage).read_text()
        assert fragile.lines(stage)[-1]["event"] == "ended"
    assert tally.delivered().total() < len(tally.ids), "it was not in the midst"
    fragile.start_stages()
    tally.wait_for_results()
    assert set(tally.delivered().values()) == {1}
