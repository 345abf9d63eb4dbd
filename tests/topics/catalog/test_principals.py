"""Principals: who has a role, where that is not the role's own name."""

from collections.abc import Mapping

import pytest

from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import principal_rights, rights
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.catalog.principals import Principals
from erasestream.topics.catalog.roles import ROUTER, Role

PRODUCER = Role("shop.producer")


def catalog_with(names: Mapping[str, tuple[str, ...]]) -> Catalog:
    return Catalog.build(
        (LaneSpec(name=Lane("shop")),),
        principals=Principals({Role(role): names for role, names in names.items()}),
    )


def test_every_principal_of_a_role_has_its_rights_and_the_role_itself_has_none() -> None:
    catalog = catalog_with({PRODUCER: ("sa-1", "CN=shop,O=Shop")})
    declared = {right for right in rights(catalog) if right.role == PRODUCER}
    assert declared
    granted = principal_rights(catalog)
    for principal in ("sa-1", "CN=shop,O=Shop"):
        its = {right for right in granted if right.role == principal}
        assert {(r.operation, r.resource, r.name, r.match) for r in its} == {
            (r.operation, r.resource, r.name, r.match) for r in declared
        }
    assert not {right for right in granted if right.role == PRODUCER}
    assert {r for r in granted if r.role == ROUTER} == {
        r for r in rights(catalog) if r.role == ROUTER
    }


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"shop.producer": ("sa-1",), "shop.consumer": ("sa-1",)}, "sa-1 would have 2 roles"),
        ({"shop.producer": ("sa-1", "sa-1")}, "sa-1 would have 2 roles"),
        ({"shop.producer": ("shop.consumer",)}, "shop.consumer would have 2 roles"),
        ({"shops.producer": ("sa-1",)}, "no role shops.producer"),
        ({"shop.producer": ("User:sa-1",)}, "not the name of one user"),
        ({"shop.producer": ("*",)}, "not the name of one user"),
        ({"shop.producer": ("",)}, "not the name of one user"),
        ({"shop.producer": ()}, "shop.producer has none"),
    ],
)
def test_a_principal_has_one_role_and_a_role_a_principal(
    names: Mapping[str, tuple[str, ...]], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        catalog_with(names)
