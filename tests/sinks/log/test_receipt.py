"""Receipts and their leaves: canonical, without a person, and refused if anything is changed."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.errors import ProofRefused
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.events.ledger import MAX_MASTERS, MAX_RECEIPT, KeyState
from erasestream.schemas.events.receipts import (
    ConsentLeaf,
    EpochKeyLeaf,
    ErasureLeaf,
    ReceiptExtra,
    Receipts,
    Subject,
    canonical_json,
    decode_leaf,
)
from erasestream.schemas.ids import AccountId, GrantId, Lane
from erasestream.sinks.log.checkpoint import Checkpoint
from erasestream.sinks.log.proof_file import MAX_HASHES, TlogProof
from erasestream.sinks.log.receipt import verify_receipt
from erasestream.sinks.log.signed_note import Kind, SigningKey
from tests.sinks.log.sample_log import AUDITOR, KEY, SIGNED_S, STRANGER, SampleLog, signed

TIME = datetime(2026, 11, 30, 10, 0, 0, 123_000, UTC)
DECISION = "0190b1f0-0000-7000-8000-000000000001"
GRANT = GrantId("0190b1f0-0000-8000-8000-000000000002")
SUBJECT = Subject(Lane("shop"), AccountId("acct-7"), DECISION)
RECEIPTS = Receipts(bytes(32))
ID = RECEIPTS.id("erasure", SUBJECT)
LEAF = ErasureLeaf(
    id=ID,
    software="0.1.0",
    subject=RECEIPTS.commitment(ID, SUBJECT),
    grant=GRANT,
    decision=RECEIPTS.id("consent", SUBJECT),
    objects=2,
    objects_root="ab" * 32,
    keys=("1",),
    recorded=TIME,
    confirmed=TIME,
    unreachable=TIME,
)
EXTRA = ReceiptExtra(leaf=LEAF.encode().decode(), **SUBJECT._asdict(), salt=RECEIPTS.salt(ID).hex())

LOG = SampleLog(5)
LOG.append([LEAF.encode()])
LOG.append_to(9, 12)


def receipt(extra: ReceiptExtra = EXTRA, size: int = 9) -> TlogProof:
    return LOG.prove(5, size, extra.encode())


def refused(proof: TlogProof, **options: object) -> str:
    with pytest.raises(ProofRefused) as caught:
        verify_receipt(proof.format(), KEY.public, AUDITOR.public, **options)
    return caught.value.detail


def test_a_receipt_is_verified_with_two_keys() -> None:
    verified = verify_receipt(receipt().format(), KEY.public, AUDITOR.public)
    assert verified.leaf == LEAF
    assert (verified.extra, verified.leaf_index, verified.log.time_s) == (EXTRA, 5, SIGNED_S)


def test_a_forged_leaf_is_refused() -> None:
    forged = EXTRA.model_copy(update={"leaf": EXTRA.leaf.replace('"objects":2', '"objects":3')})
    assert "not in the log" in refused(receipt(forged))


def test_another_tree_is_refused() -> None:
    stranger = signed(LOG.checkpoint(9), key=STRANGER)
    assert "no signature" in refused(receipt()._replace(checkpoint=stranger))
    other = SampleLog(9).checkpoint(9)
    assert "not in the log" in refused(receipt()._replace(checkpoint=signed(other)))


def test_a_rewound_checkpoint_is_refused() -> None:
    assert "rewound from 12 leaves to 9" in refused(receipt(), seen=LOG.checkpoint(12))
    assert "two trees" in refused(receipt(), seen=SampleLog(9).checkpoint(9))
    assert verify_receipt(receipt().format(), KEY.public, AUDITOR.public, seen=LOG.checkpoint(9))


@pytest.mark.parametrize(
    "changed",
    [{"salt": "00" * 32}, {"salt": "00"}, {"salt": "x"}, {"lane": "other"}, {"account": "acct-8"}],
)
def test_a_wrong_salt_lane_or_account_is_refused(changed: dict[str, str]) -> None:
    sentence = refused(receipt(EXTRA.model_copy(update=changed)))
    assert "salt" in sentence
    assert "acct" not in sentence


def test_a_receipt_that_lacks_its_subject_or_leaf_is_refused() -> None:
    assert "whose it is" in refused(receipt(EXTRA.model_copy(update={"salt": None})))
    assert "no leaf" in refused(LOG.prove(5, 9, b"{}"))
    assert "this version" in refused(LOG.prove(4, 9, canonical_json({"leaf": "leaf 4"})))


def test_a_receipt_that_names_an_owner_whom_its_leaf_does_not_prove_is_refused() -> None:
    """As of a dead key: its receipt names no owner."""
    leaf = EpochKeyLeaf(
        id=ID,
        software="0.1.0",
        purpose="sink",
        epoch=7,
        public_key_sha256="ab" * 32,
        state=KeyState.UNREACHABLE,
        seen=TIME,
    )
    ownerless = ReceiptExtra(leaf=leaf.encode().decode())
    ownerless.check(leaf)
    for claim in ({"account": "acct-7"}, {"lane": "shop"}, {"about": DECISION}, {"salt": ""}):
        with pytest.raises(ProofRefused, match="names an owner"):
            ownerless.model_copy(update=claim).check(leaf)


def test_a_leaf_has_nothing_of_the_person() -> None:
    consent = ConsentLeaf(
        id=RECEIPTS.id("consent", SUBJECT),
        software="0.1.0",
        subject=RECEIPTS.commitment(ID, SUBJECT),
        decision=Decision.GRANTED,
        grant=GRANT,
        recorded=TIME,
    )
    for leaf in (LEAF, consent):
        raw = leaf.encode()
        assert decode_leaf(raw) == leaf
        assert not any(each.encode() in raw for each in SUBJECT)
        assert b'"recorded":"2026-11-30T10:00:00.123Z"' in raw


def test_the_same_decision_of_another_account_has_other_ids_salts_and_commitments() -> None:
    other = SUBJECT._replace(account=AccountId("acct-8"))
    assert RECEIPTS.id("consent", other) != RECEIPTS.id("consent", SUBJECT)
    assert Receipts(bytes(31) + b"\1").id("consent", SUBJECT) != RECEIPTS.id("consent", SUBJECT)
    salts = {RECEIPTS.salt(RECEIPTS.id(kind, SUBJECT)) for kind in ("consent", "erasure")}
    assert len(salts) == 2
    assert RECEIPTS.commitment(ID, other) != RECEIPTS.commitment(ID, SUBJECT)


def test_a_leaf_that_is_not_canonical_is_refused() -> None:
    members = json.loads(LEAF.encode())
    for raw in (json.dumps(members).encode(), b"[" * 100_000, b"1e999", b"\xff", b"null"):
        with pytest.raises(ProofRefused):
            decode_leaf(raw)
    with pytest.raises(ProofRefused, match="canonical"):
        decode_leaf(json.dumps(members, separators=(", ", ":")).encode())


def test_members_of_later_versions_are_kept_in_the_leaf_and_ignored() -> None:
    members = json.loads(LEAF.encode()) | {"later": 1}
    assert decode_leaf(canonical_json(members)) == LEAF


@given(st.lists(st.none() | st.booleans() | st.integers() | st.text(), max_size=3))
def test_canonical_json_is_read_back(value: object) -> None:
    try:
        encoded = canonical_json(value)
    except ValueError:
        assert any(digit.isdigit() for digit in str(value))
    else:
        assert json.loads(encoded) == value


def test_canonical_json_is_that_of_the_standard() -> None:
    """RFC 8785, sections 3.2.2.2 and 3.2.3, without floats."""
    value = {"string": '\u20ac$\u000f\nA\'B"\\\\"/', "literals": [None, True, False], "n": 9}
    assert (
        canonical_json(value)
        == (
            '{"literals":[null,true,false],"n":9,"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )
    for refused_value in (1.5, {"\u20ac": 1}, 2**53, {1: 2}):
        with pytest.raises(ValueError, match=r"ASCII|number"):
            canonical_json(refused_value)


def test_the_longest_receipt_fits_into_its_event() -> None:
    """In a log of the largest size, with long names of all keys."""
    names = tuple(f"{n:a>255}" for n in range(MAX_MASTERS))
    leaf = LEAF.model_copy(update={"keys": names, "software": "1" * 50, "objects": 2**53 - 1})
    subject = Subject(Lane("a" * 32), AccountId("a" * 64), GRANT)
    extra = EXTRA.model_copy(update={"leaf": leaf.encode().decode(), **subject._asdict()})
    key = SigningKey("l" * 200, Kind.LOG, bytes(32))
    auditor = SigningKey("a" * 200, Kind.COSIGNATURE, bytes(32))
    checkpoint = signed(Checkpoint("l" * 200, 2**59, bytes(32)), key, auditor)
    proof = TlogProof(2**59 - 1, (bytes(32),) * MAX_HASHES, checkpoint, extra.encode())
    assert 10_000 < len(proof.format()) <= MAX_RECEIPT
