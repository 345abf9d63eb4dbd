"""What became of a number of uploads: counted record by record, object by object."""

from collections import Counter

from erasestream.schemas.events.images import Cutout, Part
from erasestream.schemas.ids import UploadId
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.flow.topic_reader import event_of
from tests.flow.waiting import eventually


def opt_in(flow: PipelineHarness, account: str) -> None:
    """Grant, and wait until uploads are kept."""
    flow.grant(account)

    def is_kept() -> bool:
        upload = flow.upload(account).upload_id
        flow.cutout(upload)
        return upload in flow.in_retained()

    eventually("uploads are kept", is_kept, poll_s=0.5)


class UploadBatch:
    """Uploads, every second one of an account that opted in."""

    def __init__(self, flow: PipelineHarness, *, keeper: str, forgetter: str, count: int) -> None:
        """Sends them all, and returns when all are acknowledged."""
        self._flow = flow
        producer = flow.producer()
        accounts = (keeper, forgetter)
        futures = [producer.send(photo(), account=accounts[n % 2]) for n in range(count)]
        ids = [future.result(30).upload_id for future in futures]
        self.ids = frozenset(ids)
        self.objects = frozenset((upload, part) for upload in ids[::2] for part in Part)
        """What is to lie in the bucket."""

    def delivered(self) -> Counter[UploadId]:
        """How often a read-committed subscriber was given the result of each upload."""
        events = (event_of(record) for record in self._flow.results(SHOP))
        return Counter(e.id for e in events if e.id in self.ids and isinstance(e, Cutout))

    def stored(self) -> Counter[tuple[UploadId, Part]]:
        """How many objects each part of an upload has."""
        names = self._flow.stored()
        return Counter((name.upload_id, name.part) for name in names if name.upload_id in self.ids)

    def wait_for_results(self) -> None:
        """Until every upload has a result."""
        eventually("all results", lambda: self.delivered().keys() == self.ids)

    def assert_exact(self) -> None:
        """One result for each, two objects for each that is kept, none for the others."""
        self.wait_for_results()
        self._flow.wait_until_drained()
        assert self.delivered() == Counter(self.ids)
        assert self.stored() == Counter(self.objects)
