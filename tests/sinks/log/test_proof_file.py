"""Checkpoints, signatures and proof files: each changed field is refused with a sentence."""

import re

import pytest

from erasestream.schemas.errors import ProofRefused
from erasestream.sinks.log.checkpoint import Checkpoint, open_checkpoint
from erasestream.sinks.log.proof_file import TlogProof
from erasestream.sinks.log.signed_note import Kind, Note, PublicKey
from tests.sinks.log.sample_log import (
    AUDITOR,
    KEY,
    ORIGIN,
    SIGNED_S,
    STRANGER,
    SampleLog,
    signed,
)

LOG = SampleLog(5, 300)
CHECKPOINT = LOG.checkpoint(300)
# The example of the specification of signed notes.
NOTE = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouF"
    "SQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()


def opens(raw: bytes) -> None:
    open_checkpoint(raw, KEY.public, AUDITOR.public)


def test_a_checkpoint_opens_with_both_keys() -> None:
    opened = open_checkpoint(signed(CHECKPOINT), KEY.public, AUDITOR.public)
    assert opened == (CHECKPOINT, SIGNED_S)
    assert open_checkpoint(signed(CHECKPOINT), KEY.public) == (CHECKPOINT, 0)


def test_keys_are_read_as_they_are_written() -> None:
    for key in (KEY.public, AUDITOR.public):
        assert PublicKey.parse(f"{key}\n") == key
    with pytest.raises(ProofRefused, match="id"):
        PublicKey.parse(str(KEY.public).replace("erasestream", "other"))
    for malformed in ("", "name", "name+00000000+!", "name+00000000+", "a+b+c+d"):
        with pytest.raises(ProofRefused):
            PublicKey.parse(malformed)


def test_the_example_of_the_specification_is_parsed() -> None:
    note = Note.parse(NOTE)
    assert note.text.endswith("\n\ned è subito sera.\n")
    ((name, signature),) = note.signatures
    assert (name, len(signature)) == ("quasimodo.example/salvatore", 68)


@pytest.mark.parametrize("old", ["300", ORIGIN, CHECKPOINT.text.split("\n")[2][:8]])
def test_a_changed_checkpoint_is_refused(old: str) -> None:
    raw = signed(CHECKPOINT).decode()
    with pytest.raises(ProofRefused, match="does not hold"):
        opens(raw.replace(old, "1" * len(old), 1).encode())


def test_signatures_of_others_are_ignored_and_prove_nothing() -> None:
    text = CHECKPOINT.text
    raw = signed(CHECKPOINT) + STRANGER.sign(text).encode()
    assert open_checkpoint(raw, KEY.public, AUDITOR.public).checkpoint == CHECKPOINT
    with pytest.raises(ProofRefused, match=f"no signature of {re.escape(ORIGIN)}"):
        opens(signed(CHECKPOINT, key=STRANGER))
    with pytest.raises(ProofRefused, match=r"no signature of auditor\.example"):
        opens(f"{text}\n{KEY.sign(text)}".encode())


def test_each_kind_of_signature_stands_for_itself_alone() -> None:
    """A cosigner's key that signs the text without its time has cosigned nothing."""
    plain = PublicKey(AUDITOR.public.name, Kind.LOG, AUDITOR.public.raw)
    with pytest.raises(ProofRefused, match="no signature"):
        open_checkpoint(signed(CHECKPOINT), KEY.public, plain)


def test_a_checkpoint_of_another_log_is_refused_even_with_its_signature() -> None:
    with pytest.raises(ProofRefused, match="another log"):
        opens(signed(Checkpoint("other.example", 300, CHECKPOINT.root)))


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n0300\n{CHECKPOINT.text.splitlines()[2]}\n",
        f"{ORIGIN}\n-1\n{CHECKPOINT.text.splitlines()[2]}\n",
        f"{ORIGIN}\n300\nAAAA\n",
        f"{ORIGIN}\n300\n",
        f"{CHECKPOINT.text}extension\n",
    ],
)
def test_a_malformed_checkpoint_is_refused_even_with_its_signature(text: str) -> None:
    raw = f"{text}\n{KEY.sign(text)}{AUDITOR.cosign(text, SIGNED_S)}".encode()
    with pytest.raises(ProofRefused, match="malformed"):
        opens(raw)


def test_what_is_no_note_is_refused() -> None:
    raw = signed(CHECKPOINT)
    for changed in (b"", b"\n\n", raw[:-1], raw[:-5], b"\xff" + raw, b"\0" + raw, raw + b"\n"):
        with pytest.raises(ProofRefused):
            opens(changed)


def test_a_proof_is_read_as_it_is_written() -> None:
    for extra in (b"", b"extra \xff"):
        proof = LOG.prove(7, 300, extra)
        assert TlogProof.parse(proof.format()) == proof
        assert proof.verify(b"leaf 7", KEY.public, AUDITOR.public) == (CHECKPOINT, SIGNED_S)
    assert LOG.prove(7, 300).format().startswith(b"c2sp.org/tlog-proof@v1\nindex 7\n")


def test_a_proof_for_another_leaf_tree_or_index_is_refused() -> None:
    proof = LOG.prove(4, 300)
    cases = [
        (b"leaf 5", proof),
        (b"forged", proof),
        (b"leaf 4", proof._replace(leaf_index=5)),
        (b"leaf 4", proof._replace(checkpoint=signed(LOG.checkpoint(5)))),
    ]
    for leaf, case in cases:
        with pytest.raises(ProofRefused, match="not in the log"):
            case.verify(leaf, KEY.public, AUDITOR.public)


def test_what_is_no_proof_is_refused() -> None:
    raw = LOG.prove(7, 300, b"extra").format()
    cases = [
        b"",
        raw.replace(b"@v1", b"@v2"),
        raw.replace(b"index 7", b"index 07"),
        raw.replace(b"index 7\n", b""),
        raw.replace(b"extra ", b"extra !"),
        raw.replace(b"\n\n", b"\nAAAA\n\n", 1),
        raw.replace(b"\n\n", b"\n" + b"A" * 600_000 + b"\n\n", 1),
    ]
    for case in cases:
        with pytest.raises(ProofRefused):
            TlogProof.parse(case)
