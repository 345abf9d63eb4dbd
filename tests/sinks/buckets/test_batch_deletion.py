"""Many objects deleted at once: each answer is judged, and what failed is repeated."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from erasestream.pipeline.devstack.gcs_emulator.faults import Fault, switch_faults
from erasestream.schemas.errors import Code, Unavailable
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.batch_deletion import MAX_PARTS, parse_answers
from erasestream.sinks.buckets.gcs import GcsObjectStore
from tests.sinks.buckets.test_gcs import settings_of
from tests.sinks.conftest import code_of

OCTETS = "application/octet-stream"
DELETE, POST = frozenset({"DELETE"}), frozenset({"POST"})


@contextmanager
def faults(stack: Any, *switched: Fault) -> Iterator[None]:
    switch_faults(stack.settings.faults, switched)
    try:
        yield
    finally:
        switch_faults(stack.settings.faults, [])


@pytest.fixture
def prefix() -> str:
    """Return a prefix that no other test uses."""
    return f"batch/{uuid.uuid4()}/"


@pytest.fixture
def store(stack: Any) -> Iterator[GcsObjectStore]:
    with stack.store("open", Role.ROTATOR) as store:
        yield store


def filled(store: GcsObjectStore, prefix: str, count: int) -> list[str]:
    names = [f"{prefix}{number}" for number in range(count)]
    for each in names:
        store.create(each, b"x", OCTETS)
    return names


def left(store: GcsObjectStore, prefix: str) -> int:
    return sum(1 for _ in store.list(prefix))


def test_more_objects_than_fit_in_one_request(store: GcsObjectStore, prefix: str) -> None:
    """Of which most are deleted already, the last one is not, and others stay."""
    names = filled(store, prefix, 3)
    missing = [f"{prefix}missing-{number}" for number in range(MAX_PARTS)]
    store.delete_all([names[0], *missing, names[1]])
    assert [each.name for each in store.list(prefix)] == [names[2]]
    store.delete_all([])
    store.delete_all(names)
    assert left(store, prefix) == 0


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_part_that_failed_is_repeated(
    stack: Any, store: GcsObjectStore, prefix: str, status: int
) -> None:
    """The others are deleted; that one is not taken for deleted."""
    names = filled(store, prefix, 5)
    with faults(stack, Fault(methods=DELETE, status=status, times=2)):
        assert code_of(lambda: store.delete_all(names)) is Code.BUCKET_UNAVAILABLE
        assert left(store, prefix) == 2
        store.delete_all(names)
    assert left(store, prefix) == 0


def test_an_answer_that_was_lost_is_asked_for_again(
    stack: Any, store: GcsObjectStore, prefix: str
) -> None:
    """The objects are gone then, and that is success."""
    names = filled(store, prefix, 2)
    lost = Fault(methods=DELETE, status=503, part="response", times=1)
    with faults(stack, lost), pytest.raises(Unavailable):
        store.delete_all(names)
    assert left(store, prefix) == 0
    store.delete_all(names)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(methods=POST, status=503),
        Fault(methods=POST, cut_after=0),
        Fault(methods=DELETE, cut_after=0),
        Fault(methods=POST, cut_after=10, part="response"),
    ],
    ids=["status", "cut", "cut part", "cut answer"],
)
def test_a_batch_without_an_answer_is_unavailable(
    stack: Any, store: GcsObjectStore, prefix: str, fault: Fault
) -> None:
    names = filled(store, prefix, 2)
    with faults(stack, fault):
        assert code_of(lambda: store.delete_all(names)) is Code.BUCKET_UNAVAILABLE
    store.delete_all(names)
    assert left(store, prefix) == 0


def test_a_refusal_outweighs_an_outage(stack: Any, store: GcsObjectStore, prefix: str) -> None:
    """No retry helps: it is never taken for success, nor for an outage."""
    names = filled(store, prefix, 3)
    refused = (Fault(methods=DELETE, status=s, times=1) for s in (503, 403))
    with faults(stack, *refused):
        assert code_of(lambda: store.delete_all(names)) is Code.NOT_AUTHORIZED
    assert left(store, prefix) == 2


def test_a_role_without_the_right_deletes_nothing(stack: Any, prefix: str) -> None:
    with stack.store("images", Role.SINK) as sink, stack.store("images", Role.ERASER) as eraser:
        names = filled(sink, prefix, 2)
        assert code_of(lambda: sink.delete_all(names)) is Code.NOT_AUTHORIZED
        assert left(eraser, prefix) == 2
        eraser.delete_all(names)
        assert left(eraser, prefix) == 0


def test_a_missing_bucket_is_not_an_erased_object(stack: Any) -> None:
    with GcsObjectStore(settings_of(stack, bucket="nowhere")) as store:
        assert code_of(lambda: store.delete_all(["x"])) is Code.MISSING_BUCKET


ANSWER = b"\r\n".join(
    [
        b"--b=1",
        b"Content-Type: application/http",
        b"Content-ID: <response-1>",
        b"",
        b"HTTP/1.1 404 Not Found",
        b"Content-Type: application/json",
        b"",
        b"No such object",
        b"--b=1",
        b"Content-Type: application/http",
        b"content-id: <response-0>",
        b"",
        b"HTTP/1.1 204 No Content",
        b"",
        b"",
        b"--b=1--",
        b"",
    ]
)
KIND = 'multipart/mixed; boundary="b=1"'


def test_answers_belong_to_the_parts_whose_ids_they_have() -> None:
    assert parse_answers(KIND, ANSWER) == {1: (404, b"No such object"), 0: (204, b"")}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text/html", ANSWER),
        (KIND, b""),
        (KIND, b"<html>"),
        (KIND, ANSWER.replace(b"response-", b"")),
        (KIND, ANSWER.replace(b"HTTP/1.1", b"HTTPS")),
    ],
)
def test_what_is_no_answer_answers_nothing(kind: str, content: bytes) -> None:
    assert parse_answers(kind, content) == {}


@pytest.mark.parametrize("size", [len(ANSWER) - 20, len(ANSWER) - 40])
def test_an_answer_that_was_cut_off_does_not_count(size: int) -> None:
    assert parse_answers(KIND, ANSWER[:size]) == {1: (404, b"No such object")}
