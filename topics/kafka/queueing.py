"""Queue a record in a client of the library."""

from collections.abc import Callable

from confluent_kafka import KafkaError, Message, Producer

from erasestream.topics.kafka.records import Outgoing

LOST_EXCEPTION = "a signal handler raised an exception while a record was queued; it is not queued"


def queue(
    producer: Producer, record: Outgoing, delivered: Callable[[KafkaError | None, Message], None]
) -> None:
    """Queue a record.  Raises what the library raises, and `KeyboardInterrupt`.

    The library (2.15) turns the name of each header into text by a call in which CPython runs
    signal handlers that are due, and replaces what one raises, be it `SystemExit`, by a
    `TypeError` about the name.  Ours are text, so that error means nothing else; the handler's
    exception is gone, and the program ends as one that was interrupted.
    """
    topic, partition, key, headers, value, _ = record
    try:
        producer.produce(topic, value, key, partition, delivered, headers=list(headers))
    except TypeError as error:
        if "header key" not in str(error):
            raise
        raise KeyboardInterrupt(LOST_EXCEPTION) from None
