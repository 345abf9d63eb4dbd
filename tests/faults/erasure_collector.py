"""Collect the evidence of a storm of erasures, once all is over."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256

from erasestream.pipeline.bootstrap.receipts import receipt_issuer, receipts_of
from erasestream.pipeline.bootstrap.storage import retained_reader
from erasestream.pipeline.settings import Settings
from erasestream.schemas.errors import Erased, NotFound
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.object_names import StoredName
from erasestream.sinks.log.key_files import public_key
from tests.faults.erasure_evidence import Account, ErasureEvidence, SinkKill, Written
from tests.faults.erasure_observer import ErasureObserver
from tests.faults.erasure_records import FollowedLedger, FollowedLog


def collect(
    settings: Settings,
    *,
    accounts: Sequence[Account],
    written: Sequence[Written],
    sink_kills: Sequence[SinkKill],
    observer: ErasureObserver,
    ledger: FollowedLedger,
    log: FollowedLog,
) -> ErasureEvidence:
    """Read what is left, open all that opens, and issue all receipts."""
    section = receipts_of(settings)
    ledger.read_to_end()
    log.read()
    attested = {account: list(found.values()) for account, found in ledger.attested.items()}
    with receipt_issuer(settings) as issuer:
        issued = {each.leaf.id: issuer.issue(each) for some in attested.values() for each in some}
    objects, keys = observer.objects(), observer.grants_with_keys()
    created = {StoredName.parse(name): times for name, times in observer.created.items()}
    with retained_reader(settings) as reader:
        pictures = reader.pictures()
        opened = {StoredName.parse(each.name): sha256(each.data).digest() for each in pictures}
        opened |= _opened_again(reader, accounts, created)
    return ErasureEvidence(
        accounts=accounts,
        written=written,
        sink_kills=sink_kills,
        objects=objects,
        opened=opened,
        keys=keys,
        created=created,
        last_seen=observer.last_seen,
        requests=ledger.requests,
        attested=attested,
        leaves=log.leaves,
        receipts={each: raw for each, raw in issued.items() if raw is not None},
        refused=observer.refused,
        log_key=public_key(section.log_key),
        auditor_key=public_key(section.auditor_key),
    )


def _opened_again(
    reader: RetainedReader, accounts: Sequence[Account], names: Iterable[StoredName]
) -> dict[StoredName, bytes]:
    """Try to open, by its name, an object of each ended grant and each erased upload."""
    gone = {what for each in accounts for what in (*each.ended, *each.requested)}
    last = {what: name for name in names for what in (name.grant, name.upload_id)}
    opened = {}
    for name in {last[what] for what in gone if what in last}:
        with suppress(Erased, NotFound):
            opened[name] = sha256(reader.open(str(name)).plaintext).digest()
    return opened
