"""Revoke rights of a role while a test runs."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from erasestream.topics.catalog.acl import Right
from erasestream.topics.kafka.acl_bindings import binding_of, exactly
from erasestream.topics.kafka.admin import Admin


@contextmanager
def without_rights(admin: Admin, rights: Iterable[Right]) -> Iterator[None]:
    """Delete the bindings of these rights, and create them again at the end."""
    bindings = [binding_of(right) for right in rights]
    with admin.use() as client:
        for deleted in client.delete_acls([exactly(binding) for binding in bindings]).values():
            assert len(deleted.result(20)) == 1
        try:
            yield
        finally:
            for created in client.create_acls(bindings).values():
                created.result(20)
