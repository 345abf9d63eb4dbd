"""Inspection of topics and buckets, each by a role that has access.

Reader and auditor use their own identities and rights.  The administrator, a super user, counts
the records: no other role may read the topic to the sink.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta

from erasestream.pipeline.bootstrap import storage
from erasestream.pipeline.demo.observations import (
    AccessAttempt,
    KeyLife,
    ListedObject,
    RetainedRecord,
    StoredPicture,
    TopicContents,
)
from erasestream.pipeline.demo.scenario import BULK, SHOP
from erasestream.pipeline.demo.stored_values import StoredValues
from erasestream.pipeline.settings import Settings
from erasestream.schemas.clocks import utc_now
from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.errors import ErasestreamError, Refused, SealBroken
from erasestream.schemas.events.images import Failure, Part, Retained
from erasestream.schemas.ids import UploadId
from erasestream.schemas.sealing.envelope import COMMITMENT_BYTES, MAX_SEALED_BYTES, Header
from erasestream.sinks.buckets.object_store import ObjectReader
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.object_names import StoredName
from erasestream.sinks.images.retained_pictures import RetainedObject
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ADMIN, AUDITOR, SINK, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import RETAINED, ephemeral_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.records import Record

READ_DEADLINE_S = 180.0
SHOWN_BYTES = 64


class Inspector:
    """Inspects everything after all results were received."""

    def __init__(self, settings: Settings, reader: RetainedReader) -> None:
        self._settings = settings
        self._storage = storage.storage_of(settings)
        self._reader = reader

    def retained(self) -> list[RetainedRecord]:
        """Return every record of the topic to the sink, including those of aborted transactions."""
        found = set()

        def add(record: Record) -> None:
            event = from_wire(Retained, record.headers, record.value)
            found.add(RetainedRecord(event.lane, event.account, event.id, event.part, event.grant))

        self._read({RETAINED: self._settings.catalog()[RETAINED].partitions}, add)
        return sorted(found)

    def topics(self) -> tuple[list[TopicContents], StoredValues]:
        """Return every topic of the catalog with the number of its records, and their images."""
        catalog: Catalog = self._settings.catalog()
        counts: Counter[str] = Counter()
        values = StoredValues()

        def take(record: Record) -> None:
            counts[record.at.topic] += 1
            if catalog[record.at.topic].lifetime and type_of(record.headers) is not Failure:
                values.take(record)

        self._read({topic.name: topic.partitions for topic in catalog.topics}, take)
        contents = [
            TopicContents(name=topic.name, records=counts[topic.name], lifetime=topic.lifetime)
            for topic in catalog.topics
        ]
        return contents, values

    def keys(self) -> KeyLife:
        """Return the life of the keys of the present hour."""
        times = self._settings.epochs()
        epoch = times.number(utc_now())
        dies = times.dies(epoch)
        return KeyLife(
            epoch=epoch,
            published=times.published(epoch),
            begins=times.begins(epoch),
            ends=times.begins(epoch + 1),
            dies=dies,
            destroyed=dies + timedelta(seconds=times.destruction_s),
        )

    def _read(self, topics: Mapping[str, int], apply: Callable[[Record], None]) -> None:
        connection = Connection(cluster=self._settings.cluster, role=ADMIN)
        with closing(CompactedView(connection=connection, topics=topics, apply=apply)) as view:
            view.catch_up(view.mark(), deadline_s=READ_DEADLINE_S)

    def readable(self) -> list[RetainedObject]:
        """Return the pictures that the reader may open now."""
        return list(self._reader.list())

    def listing(self) -> list[ListedObject]:
        """Return all objects of the image bucket, as the auditor lists them."""
        with storage.open_images(self._storage, AUDITOR) as store:
            return [_listed(info.name, info.size) for info in store.list("")]

    def stored(self, expected: Mapping[tuple[UploadId, Part], bytes]) -> Iterator[StoredPicture]:
        """Yield every readable object, sealed and opened; `expected`: the pictures to compare."""
        with storage.open_images(self._storage, AUDITOR) as store:
            for found in self.readable():
                sealed = store.read(found.name, MAX_SEALED_BYTES)
                opened = self._reader.open(found.name)
                header = Header.parse(sealed, None, found.part)
                body_at = len(header.raw) + COMMITMENT_BYTES
                yield StoredPicture(
                    name=found.name,
                    part=found.part,
                    upload_id=found.upload_id,
                    head=sealed[:SHOWN_BYTES],
                    body_at=body_at,
                    body=sealed[body_at : body_at + SHOWN_BYTES],
                    opened=opened.plaintext,
                    content_type=opened.content_type,
                    sha256=_sha256(opened.plaintext),
                    is_same=_sha256(opened.plaintext)
                    == _sha256(expected.get((found.upload_id, found.part), b"")),
                )

    def attempts(self) -> Sequence[AccessAttempt]:
        """Attempt actions without permission, and return the answers."""
        consumer = lane_role(SHOP, LaneRole.CONSUMER)
        connection = Connection(cluster=self._settings.cluster, role=consumer)
        with (
            Admin(connection) as shop,
            storage.open_images(self._storage, AUDITOR) as seen,
            storage.open_vault(self._storage, AUDITOR) as keys,
            storage.open_images(self._storage, SINK) as sink,
        ):
            picture, key = _first_name(seen), _first_name(keys)
            return (
                _attempt(
                    f"{consumer} reads the results of {BULK}",
                    lambda: shop.check_rights({ephemeral_of(BULK): (Operation.READ,)}),
                ),
                _attempt(
                    "the sink reads what it stored", lambda: sink.read(picture, MAX_SEALED_BYTES)
                ),
                _attempt("the auditor reads a key", lambda: keys.read(key, MAX_SEALED_BYTES)),
            )


def _first_name(store: ObjectReader) -> str:
    return next((info.name for info in store.list("")), "none")


def _attempt(action: str, call: Callable[[], object]) -> AccessAttempt:
    try:
        call()
    except ErasestreamError as error:
        return AccessAttempt(action, error.code, isinstance(error, Refused))
    return AccessAttempt(action, "allowed", refused=False)


def _listed(name: str, size: int) -> ListedObject:
    try:
        parsed = StoredName.parse(name)
    except SealBroken:
        return ListedObject(name, size, None, None)
    return ListedObject(name, size, parsed.upload_id, parsed.part)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
