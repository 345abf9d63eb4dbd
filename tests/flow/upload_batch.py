"""A batch of uploads, checked record by record and object by object."""

from collections import Counter
from datetime import UTC, datetime

from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.events.images import Cutout, Part
from erasestream.schemas.ids import UploadId
from erasestream.topics.client.upload_producer import Receipt
from erasestream.topics.consent.writer import RecordedDecision
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.flow.waiting import eventually


def opt_in(flow: PipelineHarness, account: str) -> None:
    """Grant, and wait until uploads of the account are retained."""
    flow.grant(account)

    def is_retained() -> bool:
        upload = flow.upload(account).upload_id
        flow.cutout(upload)
        return upload in flow.in_retained()

    eventually("uploads are retained", is_retained, poll_s=0.5)


def opt_in_for_later_uploads(flow: PipelineHarness, account: str) -> None:
    """Grant, and wait until every upload counts as made after the grant."""
    counts_from = flow.grant(account).at + 2 * MAX_CLOCK_SKEW
    eventually("later uploads are retained", lambda: datetime.now(UTC) > counts_from)


def counts_after(receipt: Receipt, grant: RecordedDecision) -> bool:
    """Return whether the upload was appended after the grant by more than the clock skew."""
    return receipt.appended_at - grant.at > MAX_CLOCK_SKEW


def upload_after(
    flow: PipelineHarness, account: str, grant: RecordedDecision, image: bytes | None = None
) -> Receipt:
    """Upload until one counts as after the grant, and return that one."""

    def one() -> Receipt | None:
        receipt = flow.upload(account, image=image)
        return receipt if counts_after(receipt, grant) else None

    return eventually("an upload after the grant", one, poll_s=0.3)


class UploadBatch:
    """Uploads that alternate between an account that opted in and one that did not."""

    def __init__(
        self, flow: PipelineHarness, *, opted_in: str, not_opted_in: str, count: int
    ) -> None:
        """Send all uploads and wait until they are acknowledged."""
        self._flow = flow
        producer = flow.producer()
        accounts = (opted_in, not_opted_in)
        futures = [producer.send(photo(), account=accounts[n % 2]) for n in range(count)]
        ids = [future.result(30).upload_id for future in futures]
        self.ids = frozenset(ids)
        self.objects = frozenset((upload, part) for upload in ids[::2] for part in Part)
        """The objects that the bucket must hold at the end."""

    def delivered(self) -> Counter[UploadId]:
        """Count the cut-outs of each upload that a read-committed subscriber has received."""
        events = self._flow.result_events(SHOP)
        return Counter(e.id for e in events if e.id in self.ids and isinstance(e, Cutout))

    def stored(self) -> Counter[tuple[UploadId, Part]]:
        """Count the objects of each part of an upload."""
        names = self._flow.stored()
        return Counter((name.upload_id, name.part) for name in names if name.upload_id in self.ids)

    def is_done(self) -> bool:
        """Return whether every upload has a result, and every object is stored."""
        return self.delivered().keys() == self.ids and self.stored().keys() == self.objects

    def wait_for_results(self) -> None:
        """Wait until every upload has a result."""
        eventually("all results", lambda: self.delivered().keys() == self.ids)

    def assert_exact(self) -> None:
        """Assert one result per upload, two objects per retained upload and no other object."""
        self.wait_for_results()
        self._flow.wait_until_drained()
        assert self.delivered() == Counter(self.ids)
        assert self.stored() == Counter(self.objects)
