"""Revoke rights of a role while a test runs."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from erasestream.topics.catalog.acl import Right
from erasestream.topics.kafka.acl_bindings import binding_of, exactly
from erasestream.topics.kafka.admin import Admin
from tests.flow.waiting import eventually
from tests.kafka_administration import rights_in_effect


@contextmanager
def without_rights(admin: Admin, rights: Iterable[Right]) -> Iterator[None]:
    """Delete the bindings of these rights, and create them again at the end."""
    revoked = set(rights)
    bindings = [binding_of(right) for right in revoked]
    with admin.use() as client:
        for deleted in client.delete_acls([exactly(binding) for binding in bindings]).values():
            assert len(deleted.result(20)) == 1
        eventually("the rights are revoked", lambda: not revoked & rights_in_effect(admin))
        try:
            yield
        finally:
            for created in client.create_acls(bindings).values():
                created.result(20)
            eventually("the rights are back", lambda: revoked <= rights_in_effect(admin))
