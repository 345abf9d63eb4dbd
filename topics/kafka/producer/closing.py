"""Close a producer without waiting for the brokers."""

from contextlib import suppress

from confluent_kafka import KafkaException, Producer


def close_producer(producer: Producer) -> None:
    """Give up all records that wait, passing their outcomes on, and close the producer.

    `close` alone waits for acknowledgements without end.  Once everything is closed it raises a
    fatal error that was not raised before; a `with` block would end in a `SystemError` then (both
    seen with confluent-kafka 2.15).
    """
    producer.purge()
    with suppress(KafkaException):
        producer.close()  # type: ignore[attr-defined]  # missing in the library's stubs
