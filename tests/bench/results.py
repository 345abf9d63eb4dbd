"""Take results from subscriptions until all that are wanted have come."""

import time
from collections.abc import Callable, Iterable

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import UploadId
from erasestream.topics.client.result_subscription import ResultSubscription


def take_results(
    wanted: Iterable[UploadId],
    *subscriptions: ResultSubscription,
    timeout_s: float,
    poll_s: float = 0.1,
    on_result: Callable[[Cutout | Failure], object] = lambda _result: None,
) -> None:
    """Acknowledge every result until each wanted upload has one; raise after the timeout."""
    missing = set(wanted)
    deadline = Deadline(timeout_s, time.monotonic)
    while missing:
        for subscription in subscriptions:
            delivery = subscription.poll(poll_s)
            if delivery is not None:
                on_result(delivery.event)
                missing.discard(delivery.event.id)
                delivery.ack()
        if missing and deadline.has_passed:
            raise ErasestreamError(f"{len(missing)} results did not come")
