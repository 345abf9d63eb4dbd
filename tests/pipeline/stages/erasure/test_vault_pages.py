"""The eraser's pages in the vault."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from erasestream.pipeline.stages.erasure.vault_pages import (
    MAX_BYTES,
    VaultPages,
    account_codes,
)
from erasestream.schemas.errors import Unavailable
from erasestream.sinks.buckets.folder_store import FolderStore
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually

TOPIC = "ledger.shop"


class Vault(FolderStore):
    """A vault that is unavailable at times."""

    is_unavailable = False

    def create(self, name: str, data: bytes, content_type: str) -> None:
        if self.is_unavailable:
            raise Unavailable("the vault")
        super().create(name, data, content_type)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def pages(vault: Vault) -> Iterator[VaultPages]:
    opened = open_pages(vault)
    with closing(opened):
        yield opened


def open_pages(vault: Vault, topic_id: str = "first") -> VaultPages:
    return VaultPages(vault=vault, topic_ids={TOPIC: topic_id}, stopping=threading.Event())


def test_pages_are_read_from_the_first_one_on(vault: Vault, pages: VaultPages) -> None:
    """Up to a gap; those of a topic that was deleted are of no use."""
    assert pages.read() == {}
    for number, count in enumerate((11, 0, 1)):
        for page in range(count):
            pages.write(Partition(TOPIC, number), page, f"{number}/{page}".encode())
    pages.write(Partition(TOPIC, 1), 1, b"behind a gap")
    pages.write(Partition(TOPIC, 2), 0, b"2/0")  # as another eraser
    expected = {
        Partition(TOPIC, 0): [f"0/{page}".encode() for page in range(11)],
        Partition(TOPIC, 1): [],
        Partition(TOPIC, 2): [b"2/0"],
    }
    eventually("all are written", lambda: pages.read() == expected)
    with closing(open_pages(vault, "second")) as others:
        assert others.read() == {}


def test_a_page_that_is_none_costs_its_records_again(vault: Vault, pages: VaultPages) -> None:
    """Those behind it, too: pages are used up to it, and an eraser starts all the same."""
    full = bytes(MAX_BYTES)
    for page, content in enumerate((full, b"1", bytes(MAX_BYTES + 1), b"3")):
        pages.write(Partition(TOPIC, 0), page, content)
    pages.write(Partition(TOPIC, 1), 0, b"other")
    eventually("all are written", lambda: Partition(TOPIC, 1) in pages.read())
    assert pages.read() == {Partition(TOPIC, 0): [full, b"1"], Partition(TOPIC, 1): [b"other"]}


def test_a_page_waits_for_the_vault(vault: Vault, pages: VaultPages) -> None:
    """Nothing waits for the page."""
    vault.is_unavailable = True
    pages.write(Partition(TOPIC, 0), 0, b"page")
    vault.is_unavailable = False
    eventually("it is written", lambda: pages.read() == {Partition(TOPIC, 0): [b"page"]})


def test_a_code_of_an_account_is_of_this_key_alone() -> None:
    first, second = (account_codes(bytes([number]) * 32)(b"shop/account") for number in (1, 2))
    assert len(first) == 16
    assert first != second
    assert first == account_codes(bytes([1]) * 32)(b"shop/account")
