"""Read the results in the router's records.

Only inference writes them: one that cannot be read breaks its partition.
"""

from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.codec.result_headers import ResultHeaders, parse_result_headers
from erasestream.schemas.errors import InvalidInput, InvariantBroken
from erasestream.schemas.events.images import RESULTS, Result
from erasestream.topics.kafka.records import Record


def parse_headers(record: Record) -> ResultHeaders:
    """Return the headers that decide the route of a result."""
    try:
        headers = parse_result_headers(record.headers)
    except InvalidInput as error:
        raise _broken(record, error) from error
    if headers.position.partition != record.at.number:
        raise InvariantBroken(f"{record.at} at {record.offset} is of another partition")
    return headers


def parse_result(record: Record) -> Result:
    """Return the whole result."""
    try:
        return one_from_wire(RESULTS, record.headers, record.value)
    except InvalidInput as error:
        raise _broken(record, error) from error


def _broken(record: Record, error: InvalidInput) -> InvariantBroken:
    return InvariantBroken(f"{record.at} at {record.offset}: {error.code}")
