"""Send results, and translate the Kafka client's errors."""

from collections.abc import Sequence
from typing import Any

from aiokafka.errors import KafkaError, KafkaTimeoutError

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import cutouts_of


class ResultSender:
    """Sends results to the partition of their upload's number."""

    def __init__(self, app: Any, lanes: Sequence[Lane], topic_options: dict[str, Any]) -> None:
        self._app = app
        self._topics = {
            lane: app.topic(cutouts_of(lane), **topic_options, internal=False) for lane in lanes
        }

    async def send(self, lane: Lane, partition: int, wire: Wire) -> bool:
        """Send a result, and wait until it is acknowledged.

        Returns False if the app is stopping and has closed its client: then the upload is read
        again.  Raises the client's errors as `translate_error` returns them.
        """
        try:
            sent = await self._topics[lane].send(
                value=wire.value, partition=partition, headers=wire.headers
            )
            await sent
        except KafkaError as error:
            if self._app.should_stop:
                return False
            raise translate_error(error) from error
        return True


def translate_error(error: Exception) -> Exception:
    """Return `Unavailable` for a failed send that names the brokers, else the error itself.

    Either ends the process: it is unknown whether the record was appended, and only a new
    producer may send it again in its order.
    """
    if isinstance(error, KafkaTimeoutError) or getattr(error, "retriable", False):
        return Unavailable(f"sending a result: {type(error).__name__}")
    return error
