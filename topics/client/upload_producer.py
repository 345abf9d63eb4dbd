"""Client library for sending images.

Delivery: an upload with a `Receipt` is on the brokers, in as many replicas as their durability
demands, and yields exactly one result.  An upload that raised `Unavailable` after it was sent
*may* have been appended; sent again with the same idempotency key it has the same id, and
consumers of results deduplicate by id.

* An upload that was given up is reported: through its future, or, if that was not looked at, when
  its producer is closed.  A program that ends without closing has 10 s to deliver what waits; then
  it writes to standard error how many uploads are lost, and exits with status 120.
* Every in-sync replica must acknowledge; retries inside the library append once.
* Uploads have no key, and their order is not guaranteed.
* Images are sealed before they are handed over, for the inference stage alone; what waits to be
  sent is ciphertext.  While the key service is unavailable, the key of the next epoch is used, so
  for an hour at least; then callers wait.
* The bytes that wait to be sent are bounded; beyond the bound, callers wait.
* Images that the pipeline would refuse for first bytes, size or account are not sent.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Self

from erasestream.schemas.clocks import Deadline, WallClock, utc_now
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.ids import Lane
from erasestream.topics.client.image_source import ImageSource, read_image
from erasestream.topics.client.sent_upload import Receipt
from erasestream.topics.client.upload_builder import Options, UploadFactory
from erasestream.topics.client.upload_sender import SendingLimits, UploadSender
from erasestream.topics.kafka.connection import Cluster

__all__ = ["Receipt", "SendingLimits", "UploadProducer"]


class UploadProducer:
    """Sends the images of one lane.  Thread-safe; must not cross a fork.

        cluster = Cluster(
            bootstrap_servers=("kafka-1.example:9093",),
            key_endpoints=("https://keys-1.example:9443",),
            identities=Path("identities"),
        )
        with UploadProducer(cluster, Lane("shop")) as producer:
            sent = [
                producer.send(path.read_bytes(), account="acct-17", reference=path.stem)
                for path in Path("photos").glob("*.jpg")
            ]
            for future in sent:
                print(future.result().upload_id)

    The constructor checks with the brokers that this role may write, fetches a key to seal with,
    and raises `Refused` (missing_certificate, certificate_refused, not_authorized, missing_topic)
    or `Unavailable` (broker_unavailable, keys_unavailable).  With `sealed=False` images are sent as
    they are, for lanes that accept that; otherwise the cluster must name the key service.
    Leaving the block waits until every upload is acknowledged or has failed, and raises the error
    of uploads that failed and whose futures were not looked at.
    """

    def __init__(
        self,
        cluster: Cluster,
        lane: Lane,
        *,
        limits: SendingLimits | None = None,
        sealed: bool = True,
        now: WallClock = utc_now,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        limits = limits or SendingLimits()
        self._factory = UploadFactory(
            lane=lane, now=now, random=random, max_image_bytes=limits.max_image_bytes
        )
        self._sender = UploadSender(cluster, lane, limits=limits, sealed=sealed, now=now)

    def send(
        self,
        image: ImageSource,
        *,
        account: str,
        reference: str | None = None,
        options: Options = None,
        idempotency_key: str | None = None,
        idempotency_time: datetime | None = None,
        never_retain: bool = False,
    ) -> Future[Receipt]:
        """Send an image; the future is done once the brokers have acknowledged it.

        `image` is the image's own bytes, the path of its file, or a file that is open for reading
        bytes.  The same account and `idempotency_key` give the upload the same id on every retry;
        with an `idempotency_time`, the same three do.  `reference`, 1 to 128 characters of your
        own, is returned with the result.  With `never_retain` the image is never retained, whatever
        its owner has decided.

        Raises at once: `InvalidImage` (empty, too_large, unsupported_format, missing_file,
        unreadable_file), `InvalidEvent` (invalid_account, invalid_options, invalid_event),
        `Unavailable` after `limits.max_wait_s` without a key to seal with (keys_unavailable) or
        without room (queue_full), `Refused` (closed, used_after_fork).
        Through the future: `Unavailable`, `Refused`.  The future's callbacks run in the
        producer's thread and must be short.
        """
        self._sender.check_usable()
        upload = self._factory.build(
            read_image(image),
            account=account,
            reference=reference,
            options=options,
            idempotency_key=idempotency_key,
            idempotency_time=idempotency_time,
            never_retain=never_retain,
        )
        deadline = Deadline(self._sender.limits.max_wait_s, time.monotonic)
        key = self._sender.encoder.key(deadline)
        with self._sender.reserving(upload) as room:
            room.result(deadline.remaining_s)
            prepared = self._sender.encoder.encode(upload, key)
        return self._sender.send(prepared)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every upload sent so far is acknowledged or has failed.

        Raises `Unavailable` after `timeout_s`; by default after the delivery timeout, by which
        every future is done in any case.
        """
        self._sender.flush(self._sender.limits.delivery_s if timeout_s is None else timeout_s)

    def close(self) -> None:
        """Wait `limits.close_s` for acknowledgements, give up the rest, then disconnect.

        From any thread, or from a signal handler.  Idempotent.
        Raises the error of uploads that failed and whose futures were not looked at.
        """
        self._sender.close(self._sender.limits.close_s)

    def __del__(self) -> None:
        # Uploads that wait are delivered, and then the sender's thread closes its client.
        sender: UploadSender | None = getattr(self, "_sender", None)  # None: it did not open
        if sender is not None and not sender.is_closed:
            warn_unclosed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._sender.close(self._sender.limits.delivery_s)
            return
        with noting(error):
            self.close()


def warn_unclosed(producer: object) -> None:
    """Warn that a producer was dropped."""
    message = f"unclosed {type(producer).__name__}: close it, or use a with block"
    warnings.warn(message, ResourceWarning, source=producer, stacklevel=3)


@contextmanager
def noting(error: BaseException) -> Iterator[None]:
    """Add the failure of closing to the error that ended the block."""
    try:
        yield
    except ErasestreamError as failure:
        error.add_note(str(failure))
