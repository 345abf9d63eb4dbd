"""Images as they are in the topics, and where the broker has them on its disk."""

from collections.abc import Iterator
from pathlib import Path

from erasestream.pipeline.demo.observations import BrokerBytes
from erasestream.pipeline.demo.plaintext_search import PIECE_BYTES
from erasestream.topics.kafka.records import Record

HEAD_BYTES = 64


class StoredValues:
    """The values of records with images, as an administrator reads them."""

    def __init__(self) -> None:
        self.pieces: dict[str, bytes] = {}
        """A piece of each, from its middle, by the record's position."""
        self._heads: dict[str, bytes] = {}

    def take(self, record: Record) -> None:
        """Take the image in a record."""
        middle = len(record.value) // 2
        self.pieces[f"{record.at} at {record.offset}"] = record.value[middle : middle + PIECE_BYTES]
        self._heads.setdefault(record.at.topic, record.value[:HEAD_BYTES])

    def on_disk(self, data: Path) -> Iterator[BrokerBytes]:
        """Yield the beginning of the first image of each topic, read from the broker's files."""
        for topic, head in sorted(self._heads.items()):
            for file in sorted(data.glob(f"{topic}-*/*.log")):
                content = file.read_bytes()
                if (at := content.find(head)) >= 0:
                    name = str(file.relative_to(data))
                    yield BrokerBytes(topic, name, at, content[at : at + HEAD_BYTES])
                    break
