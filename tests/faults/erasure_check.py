"""Compare buckets and log with what owners decided, once every erasure has ended."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from erasestream.pipeline.bootstrap.receipts import (
    attested_about,
    log_reader,
    receipt_issuer,
    receipts_of,
)
from erasestream.pipeline.settings import Settings
from erasestream.schemas.errors import ProofRefused
from erasestream.schemas.events.receipts import ErasureLeaf, UploadErasureLeaf, decode_leaf
from erasestream.schemas.ids import GrantId, UploadId
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.object_names import StoredName
from erasestream.sinks.images.retained_pictures import Selection
from erasestream.sinks.log.key_files import public_key
from erasestream.sinks.log.log_reader import new_leaves
from erasestream.sinks.log.receipt import verify_receipt
from erasestream.topics.consent.account_erasures import AccountErasures
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.upload_erasures import UploadErasures
from tests.bench.running_pipeline import SHOP
from tests.faults.erasure_observer import ErasureObserver
from tests.faults.erasure_traffic import Account, bytes_of


class Erasures(NamedTuple):
    """One account's erasures, as the topics tell of them."""

    grants: AccountErasures
    uploads: UploadErasures

    @classmethod
    def of(cls, reader: ConsentReader, account: Account) -> "Erasures":
        """Open both."""
        name = account.name
        return cls(AccountErasures(reader, SHOP, name), UploadErasures(reader, SHOP, name))

    def have_ended(self, account: Account) -> bool:
        """Return whether all that the owner ended is gone."""
        grants = {each.grant for each in self.grants.now() if each.gone}
        uploads = [each for each in self.uploads.now() if each.gone]
        return grants >= {*account.ended} and {each.upload for each in uploads} == account.requested


def judge_buckets(
    accounts: Iterable[Account], observer: ErasureObserver, reader: RetainedReader
) -> Counter[str]:
    """Count what is wrong with keys and objects."""
    wrong = Counter[str]()
    objects, keys = observer.objects(), observer.grants_with_keys()
    for account in accounts:
        ended = set(account.ended)
        wrong["orphans"] += sum(
            each.grant in ended or each.upload_id in account.requested for each in objects
        )
        wrong["keys_from_the_dead"] += sum(keys[grant] for grant in ended)
        if account.living is not None:
            wrong.update(_judge_living(account, account.living, objects, reader))  # keeps zeros
    return wrong


def _judge_living(
    account: Account, grant: GrantId, objects: list[StoredName], reader: RetainedReader
) -> Counter[str]:
    found = Counter(each.upload_id for each in objects if each.grant == grant)
    selected = reader.pictures(Selection(frozenset({grant})))
    opened = {
        each.upload_id
        for each in selected
        if each.data == bytes_of(each.upload_id, account.kept.get(each.upload_id, 0))
    }
    return Counter(
        lost=len(account.kept.keys() - found.keys()),
        duplicated=sum(count > 1 for count in found.values()),
        unopened=len((account.kept.keys() & found.keys()) - opened),
    )


def judge_receipts(
    accounts: Iterable[Account],
    settings: Settings,
    observer: ErasureObserver,
    reader: ConsentReader,
) -> tuple[int, Counter[str]]:
    """Verify every receipt; return how many of erasures there are, and what is wrong."""
    wrong = Counter[str](refused=observer.refused.total())
    with log_reader(settings) as log:
        newest = log.newest()
        leaves = list(map(decode_leaf, new_leaves(None, newest))) if newest else []
    wrong["twice"] = len(leaves) - len({each.id for each in leaves})
    erased = Counter(each.grant for each in leaves if isinstance(each, ErasureLeaf))
    count = 0
    for account in accounts:
        ended = {each.grant for each in Erasures.of(reader, account).grants.now()}
        wrong["unfounded"] += erased[account.living] if account.living else 0
        wrong["lost"] += sum(erased[grant] == 0 for grant in ended | {*account.ended})
        wrong["twice"] += sum(erased[grant] > 1 for grant in ended)
        verified, found = _verify(account, settings, observer, reader)
        count += verified
        wrong.update(found)
    return count, wrong


def _verify(
    account: Account, settings: Settings, observer: ErasureObserver, reader: ConsentReader
) -> tuple[int, Counter[str]]:
    wrong, grants, uploads = Counter[str](early=0), set[GrantId](), Counter[UploadId]()
    asked = {each.request: each.upload for each in Erasures.of(reader, account).uploads.now()}
    keys = [public_key(str(getattr(receipts_of(settings), f"{n}_key"))) for n in ("log", "auditor")]
    with receipt_issuer(settings) as issuer:
        for each in attested_about(settings, SHOP, account.name):
            raw = issuer.issue(each)
            if raw is None:
                wrong["lost"] += 1
                continue
            try:
                verified = verify_receipt(raw, *keys)
            except ProofRefused:
                wrong["refused"] += 1
                continue
            match verified.leaf:
                case ErasureLeaf() as leaf:
                    grants.add(leaf.grant)
                    times = [leaf.recorded, leaf.confirmed, leaf.unreachable]
                    wrong["early"] += not _is_after(times, leaf.grant, observer)
                case UploadErasureLeaf() as leaf:
                    upload = asked[str(verified.extra.about)]
                    uploads[upload] += 1
                    times = [leaf.recorded, leaf.gone]
                    wrong["early"] += not _is_after(times, upload, observer)
    wrong["lost"] += len({*account.ended} - grants) + len(account.requested - uploads.keys())
    wrong["unfounded"] += len(uploads.keys() - account.requested)
    return len(grants) + uploads.total(), wrong


def _is_after(times: list[datetime], what: str, observer: ErasureObserver) -> bool:
    """Return whether the times are in order, and nothing was seen after the last one."""
    return times == sorted(times) and not observer.saw(what, times[-1])
