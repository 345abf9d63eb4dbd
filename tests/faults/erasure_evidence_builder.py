"""Evidence of a small clean storm: three accounts, with a real log and real receipts."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from erasestream.pipeline.stages.receipts.leaves import Attested, LeafBuilder
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.events.images import Part
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    GrantErased,
    KeyState,
    UploadErased,
    UploadErasureState,
)
from erasestream.schemas.events.receipts import ReceiptExtra, Receipts
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId, grant_id, new_upload_id
from erasestream.sinks.images.object_names import StoredName
from erasestream.sinks.log.signed_note import SigningKey
from erasestream.topics.catalog.topic_names import RETAINED, erasures_of, ledger_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.kafka.records import Partition, Record
from tests.faults.erasure_evidence import Account, ErasureEvidence, SinkKill, Written
from tests.kept_pictures import bytes_of
from tests.sinks.log.sample_log import AUDITOR, KEY, SampleLog, signed

LANE = Lane("shop")
T = datetime(2026, 11, 30, 10, tzinfo=UTC)
PARTITIONS = {ledger_of(LANE): 4, erasures_of(LANE): 4}
SIZE = 100
RECEIPTS = Receipts(bytes(32))
BUILDER = LeafBuilder(receipts=RECEIPTS, partitions=PARTITIONS, software="0")


def at(seconds: float) -> datetime:
    """Return a moment of the storm."""
    return T + timedelta(seconds=seconds)


def upload(number: int) -> UploadId:
    """Return the id of an upload, of a request or of a decision."""
    return new_upload_id(round(T.timestamp() * 1000), number.to_bytes(10, "big"))


def stored(grant: GrantId, of: UploadId, content: str = "c") -> StoredName:
    """Return the name of the photo of an upload."""
    return StoredName("a" * 64, grant, of, Part.ORIGINAL, content * 64)


def digest(of: UploadId) -> bytes:
    """Return the SHA-256 of the photo of an upload."""
    return sha256(bytes_of(of, SIZE)).digest()


REVOKED, RENEWED, ASKED = (AccountId(name) for name in ("revoked", "renewed", "asked"))
"""One account that revoked, one that granted again afterwards, one that had an upload erased."""
GRANTED = {account: upload(n) for n, account in enumerate((REVOKED, RENEWED, ASKED))}
"""First decision of each."""
ENDED_BY = {REVOKED: upload(10), RENEWED: upload(11)}
ENDED = grant_id(LANE, REVOKED, GRANTED[REVOKED])
ENDED_TOO = grant_id(LANE, RENEWED, GRANTED[RENEWED])
LIVING = grant_id(LANE, RENEWED, upload(12))
LIVING_TOO = grant_id(LANE, ASKED, GRANTED[ASKED])
KEPT, KEPT_TOO, ERASED, REQUEST = upload(20), upload(21), upload(22), upload(30)
LATE = upload(23)
"""Upload of the account that revoked, which was stored afterwards, and deleted."""
KEPT_NAME, LATE_NAME = stored(LIVING, KEPT), stored(ENDED, LATE)
ERASED_NAME = stored(LIVING_TOO, ERASED)


def decided(account: AccountId, decision: Decision, id_: str, seconds: float) -> Attested:
    """Return what the entry of a decision attests."""
    entry = DecisionEntry(
        id=id_,
        time=at(seconds),
        lane=LANE,
        account=account,
        decision=decision,
        actor="owner",
        channel=Channel.LIBRARY,
    )
    return _attested(ledger_of(LANE), entry, seconds)


def erased(
    account: AccountId, *, recorded: float = 10, confirmed: float = 12, seen: float = 70
) -> Attested:
    """Return what the entry of the erasure of an account's first grant attests; its seconds."""
    entry = GrantErased(
        id=upload(40),
        time=at(seen),
        lane=LANE,
        account=account,
        grant=grant_id(LANE, account, GRANTED[account]),
        decision=ENDED_BY.get(account, upload(41)),
        recorded=at(recorded),
        confirmed=at(confirmed),
        objects=1,
        objects_root="ab" * 32,
        keys=("1",),
        state=KeyState.UNREACHABLE,
    )
    return _attested(erasures_of(LANE), entry, seen)


def erased_upload(of: UploadId = ERASED, request: str = REQUEST, *, seen: float = 70) -> Attested:
    """Return what the entry of the erasure of an upload attests."""
    entry = UploadErased(
        id=upload(42),
        time=at(seen),
        lane=LANE,
        account=ASKED,
        upload=of,
        request=request,
        recorded=at(10),
        stored_as="cd" * 32,
        objects=1,
        objects_root="ab" * 32,
        state=UploadErasureState.GONE,
    )
    return _attested(erasures_of(LANE), entry, seen)


def entries() -> list[Attested]:
    """Return what the entries of the ledger attest, in their order."""
    return [
        *(decided(account, Decision.GRANTED, id_, 0) for account, id_ in GRANTED.items()),
        *(decided(account, Decision.REVOKED, id_, 10) for account, id_ in ENDED_BY.items()),
        decided(RENEWED, Decision.GRANTED, upload(12), 15),
        erased(REVOKED),
        erased(RENEWED),
        erased_upload(),
    ]


def clean(attested: Sequence[Attested] = ()) -> ErasureEvidence:
    """Return evidence in which nothing is wrong; or, with other entries, that of their log."""
    attested = attested or entries()
    pictures = [(ENDED, LATE), (LIVING, KEPT), (LIVING_TOO, KEPT_TOO), (LIVING_TOO, ERASED)]
    return ErasureEvidence(
        accounts=[
            Account(REVOKED, ended=[ENDED]),
            Account(RENEWED, ended=[ENDED_TOO], living=LIVING, kept={KEPT: SIZE}),
            Account(ASKED, living=LIVING_TOO, kept={KEPT_TOO: SIZE}, requested={ERASED}),
        ],
        written=[
            Written(Partition(RETAINED, number), 7, (*picture, Part.ORIGINAL))
            for number, picture in enumerate(pictures)
        ],
        sink_kills=[SinkKill(at(20), {Partition(RETAINED, 0): 7})],
        objects=[KEPT_NAME, stored(LIVING_TOO, KEPT_TOO)],
        opened={KEPT_NAME: digest(KEPT), stored(LIVING_TOO, KEPT_TOO): digest(KEPT_TOO)},
        keys=Counter({LIVING: 1, LIVING_TOO: 1}),
        created={
            KEPT_NAME: {at(16)},
            stored(LIVING_TOO, KEPT_TOO): {at(5)},
            LATE_NAME: {at(13)},
            ERASED_NAME: {at(11)},
        },
        last_seen={ENDED: at(14), ERASED: at(12), LIVING: at(80), KEPT: at(80)},
        requests={REQUEST: ERASED},
        attested={
            account: [each for each in attested if each.subject and each.subject.account == account]
            for account in (REVOKED, RENEWED, ASKED)
        },
        leaves=[each.leaf.encode() for each in attested],
        receipts=receipts(attested),
        refused=Counter(),
        log_key=KEY.public,
        auditor_key=AUDITOR.public,
    )


def receipts(attested: Sequence[Attested], *, key: SigningKey = KEY) -> dict[str, bytes]:
    """Return the receipts of a log that has these leaves, by their ids."""
    log = SampleLog()
    log.append([each.leaf.encode() for each in attested])
    checkpoint = signed(log.checkpoint(len(attested)), key)
    return {
        each.leaf.id: log.prove(index, len(attested), _extra(each))
        ._replace(checkpoint=checkpoint)
        .format()
        for index, each in enumerate(attested)
    }


def _extra(attested: Attested) -> bytes:
    leaf, subject = attested
    assert subject
    salt = RECEIPTS.salt(leaf.id).hex()
    return ReceiptExtra(leaf=leaf.encode().decode(), **subject._asdict(), salt=salt).encode()


def _attested(
    topic: str, entry: DecisionEntry | GrantErased | UploadErased, seconds: float
) -> Attested:
    wire = to_wire(entry, source="/test")
    found, key = place(topic, entry.account, PARTITIONS)
    appended_ms = round(at(seconds).timestamp() * 1000)
    attested = BUILDER.build(Record(found, 0, appended_ms, key, wire.headers, wire.value))
    assert attested
    return attested
