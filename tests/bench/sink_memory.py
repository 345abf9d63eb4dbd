"""Print the peak memory of a process that stores pictures, in MB: `python -m ... SIZE COUNT`.

It has the sink's parts but Kafka's client, for which it holds as many bytes as that may have
fetched, and makes the pictures itself, one at a time.
"""

import sys
import threading
from typing import NamedTuple, cast

# Imported for its memory: the process of the sink has it all.
from erasestream.pipeline.bootstrap.encryption import QUEUE_KBYTES
from erasestream.pipeline.settings_sections import StorageSettings
from erasestream.pipeline.stages.encryption.picture_store import Picture, PictureStore
from erasestream.schemas.ids import GrantId
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.records import Partition
from tests.bench.servers import memory_mb
from tests.bench.sink import GRANT, OneKey, contenders_of, sealed_picture

DEFAULTS = {name: field.default for name, field in StorageSettings.model_fields.items()}


class _Active(NamedTuple):
    grant: GrantId


class _OneGrant:
    """A view in which the grant of all pictures is in force."""

    def active_grant(self, *_: object) -> _Active:
        return _Active(GRANT)


def main(size: int, count: int) -> None:
    """Store so many pictures of a size, with the settings' defaults."""
    fetched = b"\1" * (QUEUE_KBYTES * 1024)
    source = OneKey()
    with contenders_of(source) as contenders:
        store = PictureStore(
            view=cast("ConsentView", _OneGrant()),
            sink=contenders.sink,
            stopping=threading.Event(),
            max_parallel=DEFAULTS["uploads_in_flight"],
            max_bytes=DEFAULTS["bytes_in_flight"],
        )
        begun = done = 0
        while done < count:
            if begun < count and store.room_bytes:
                event = sealed_picture(source, size)
                store.begin(Picture.of(Partition("retained", 0), begun, event), event)
                begun += 1
            else:
                store.wait(0.1)
            done += len(store.finished())
        store.close()
    # Not `ru_maxrss`: that has the peak of the process that started this one, too.
    sys.stdout.write(f"{memory_mb()[1]}\n")
    del fetched


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
