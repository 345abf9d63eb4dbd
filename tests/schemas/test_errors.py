"""Errors keep their class, code and detail when they cross a process."""

import copy
import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from erasestream.schemas import errors
from erasestream.schemas.errors import Code, ErasestreamError, InvalidEvent, InvalidImage, Refused
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition


def _errors() -> list[ErasestreamError]:
    """Return one error of each class, and two with a code of their own."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    return [
        *(each(each.__name__) for each in kinds if issubclass(each, ErasestreamError)),
        InvalidImage("at most 25 MB", code=Code.TOO_LARGE),
        Refused(code=Code.USED_AFTER_FORK),
    ]


def _facts(error: ErasestreamError) -> tuple[object, ...]:
    return type(error), error.code, error.detail, error.sentence, str(error), repr(error)


BROKEN = PartitionBroken(Partition("uploads.shop", 3), Defect.RESULTS_MISSING, "gone", 17)


@pytest.mark.parametrize("error", [*_errors(), BROKEN], ids=repr)
def test_a_copy_of_an_error_is_the_same(error: ErasestreamError) -> None:
    error.add_note("row 17")
    pickled = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    for restored in (pickled, copy.copy(error), copy.deepcopy(error)):
        assert _facts(restored) == _facts(error)
        assert vars(restored) == vars(error)


@pytest.mark.parametrize("error", _errors(), ids=repr)
def test_an_error_is_rebuilt_from_its_arguments_as_json(error: ErasestreamError) -> None:
    """As Celery does, which sends class and `args` in its default serializer."""
    assert _facts(type(error)(*json.loads(json.dumps(error.args)))) == _facts(error)


def test_an_error_crosses_a_process_pool() -> None:
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with pool, pytest.raises(InvalidEvent) as raised:
        pool.submit(CutoutOptions, format="gif").result()
    assert _facts(raised.value) == _facts(InvalidEvent("format", code=Code.INVALID_OPTIONS))
