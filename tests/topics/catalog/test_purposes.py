"""Every role against every purpose: who may seal, and who alone may open."""

import pytest

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.catalog.purposes import purposes
from erasestream.topics.catalog.roles import Role

LANES = (Lane("shop"), Lane("shop-2"))
ROLES = Catalog.build(tuple(LaneSpec(name=lane) for lane in LANES)).roles
OPENERS = {
    "inference.shop": {"inference"},
    "inference.shop-2": {"inference"},
    "sink": {"sink"},
    "results.shop": {"shop.consumer"},
    "results.shop-2": {"shop-2.consumer"},
}
SEALERS = {
    "inference.shop": {"shop.producer"},
    "inference.shop-2": {"shop-2.producer"},
    "sink": {"inference"},
    "results.shop": {"inference"},
    "results.shop-2": {"inference"},
}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_exactly_its_purposes(role: Role) -> None:
    table = purposes(LANES)
    opens = {name for name, purpose in table.items() if purpose.opener == role}
    seals = {name for name, purpose in table.items() if role in purpose.sealers}
    assert opens == {name for name, roles in OPENERS.items() if role in roles}
    assert seals == {name for name, roles in SEALERS.items() if role in roles}
