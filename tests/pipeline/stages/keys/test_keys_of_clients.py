"""Clients of the key service: what they do while it, or their own certificate, is unavailable."""

import shutil
from pathlib import Path

import pytest

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Code, NotAuthorized, Unavailable
from erasestream.schemas.events.images import Cutout, Failure, Part
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import Context, seal, upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochRecipient
from erasestream.topics.catalog.purposes import Purpose, purposes
from erasestream.topics.catalog.roles import SINK, Role
from erasestream.topics.client import result_opening
from erasestream.topics.client.result_opening import ResultOpener
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient
from tests.pipeline.stages.keys.key_harness import LANES, TIMES, KeyHarness
from tests.topics.client.results import cutout, upload_id

WAIT_S = 20.0


def test_a_certificate_that_is_being_replaced_is_waited_for(
    harness: KeyHarness, tmp_path: Path
) -> None:
    """Its two files do not change at once; no stage ends because of that."""
    harness.start().do_round()
    folder = shutil.copytree(harness.identities, tmp_path / "identities")
    client = KeyClient(
        endpoints=[replica.endpoint for replica in harness.replicas],
        identity=Identity.load(folder, Role("sink")),
        now=harness.clock,
    )
    epoch, key = TIMES.number(harness.clock()), folder / "sink.key"
    own = key.read_bytes()
    key.write_bytes((folder / "inference.key").read_bytes())
    with pytest.raises(Unavailable) as caught:
        client.opening_key("sink", epoch, timeout_s=0)
    assert caught.value.code is Code.KEYS_UNAVAILABLE
    key.write_bytes(own)
    assert isinstance(client.opening_key("sink", epoch, timeout_s=WAIT_S), bytes)


def sealed_result(
    harness: KeyHarness, epoch: int, *, key_of: int | None = None, appended_ms: int | None = None
) -> Record:
    """Return a result that is sealed for an epoch, with the key of this or another one."""
    client = harness.client("inference")
    public = client.public_key("results.shop", key_of or epoch, timeout_s=WAIT_S)
    assert isinstance(public, bytes)
    recipient = EpochRecipient.of(Epoch("results.shop", epoch), public)
    upload = upload_digest(LANES[0], cutout(1).account, upload_id(1))
    context = Context(upload, Part.CUTOUT, "image/png")
    sealed = {
        "content_type": SEALED_CONTENT_TYPE,
        "data": seal(b"cut", context=context, recipients=[recipient]),
    }
    headers, value = to_wire(cutout(1).model_copy(update=sealed), source="/test")
    now_ms = int(harness.clock().timestamp() * 1000)
    appended_ms = now_ms if appended_ms is None else appended_ms
    return Record(Partition("ephemeral.shop", 0), 0, appended_ms, None, headers, value)


@pytest.mark.parametrize("appended_ms", [-(1 << 63), 0, (1 << 63) - 1])
def test_a_forged_time_of_append_holds_nothing_back(harness: KeyHarness, appended_ms: int) -> None:
    """A result whose key there will be is opened, one of a forged epoch is a failure at once."""
    harness.start().do_round()
    opener = ResultOpener(LANES[0], harness.client("shop.consumer"), now=harness.clock)
    epoch = TIMES.number(harness.clock())
    alive = sealed_result(harness, epoch, appended_ms=appended_ms)
    assert isinstance(opener.result_of(alive), Cutout)
    forged = sealed_result(harness, epoch + 9, key_of=epoch, appended_ms=appended_ms)
    failure = opener.result_of(forged)
    assert isinstance(failure, Failure)
    assert failure.code == Code.SEAL_BROKEN


def test_a_consumer_keeps_no_dead_key_while_it_waits_for_another(
    harness: KeyHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service may be unavailable for longer than a key lives."""
    harness.start().do_round()
    consumer = harness.client("shop.consumer")
    opener = ResultOpener(LANES[0], consumer, now=harness.clock)
    epoch = TIMES.number(harness.clock())

    alive = sealed_result(harness, epoch)
    later = sealed_result(harness, epoch + 1, key_of=epoch)
    assert opener.known_result_of(alive) is None
    assert isinstance(opener.result_of(alive), Cutout)
    assert isinstance(opener.known_result_of(alive), Cutout)
    assert opener.known_result_of(later) is None
    assert opener._openers
    harness.replicas.pop().stage.close()
    monkeypatch.setattr(result_opening, "ANSWER_S", 0)
    harness.clock.at = TIMES.dies(epoch)
    assert opener.known_result_of(alive) is None
    with pytest.raises(Unavailable):
        opener.result_of(later)
    assert not opener._openers
    assert not consumer._of_epochs


def test_a_consumer_keeps_no_dead_key_while_another_is_refused(harness: KeyHarness) -> None:
    """It asks for that again and again, as long as its subscription runs."""
    allowed = harness.start()
    table = purposes(LANES) | {"results.shop": Purpose("results.shop", SINK, frozenset())}
    harness.start(table=table)
    opener = ResultOpener(LANES[0], harness.client("shop.consumer"), now=harness.clock)
    epoch = TIMES.number(harness.clock())
    alive = sealed_result(harness, epoch)
    later = sealed_result(harness, epoch + 1, key_of=epoch)
    assert isinstance(opener.result_of(alive), Cutout)
    harness.replicas.remove(allowed)
    allowed.stage.close()
    with pytest.raises(NotAuthorized):
        opener.result_of(later)
    assert not opener._openers
