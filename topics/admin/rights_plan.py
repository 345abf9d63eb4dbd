"""Access rights in the plan of provisioning.

* Provisioning owns the rules that allow something to a role of its own: of a stage, or of a lane,
  also of one that was removed; and to the principals that the settings map to roles now.  It
  withdraws those that the catalog does not declare.
* Every other rule is foreign: it stays, and the plan shows it.  A DENY is always foreign, whatever
  its principal: an operator who blocks a role does not lose the block to the next run.
"""

from dataclasses import dataclass

from erasestream.topics.catalog.acl import Right, principal_rights
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import is_role_name
from erasestream.topics.kafka.acl_bindings import (
    EVERY_BINDING,
    AclBinding,
    allowed_principal,
    describe,
    right_of,
)
from erasestream.topics.kafka.admin import Admin


@dataclass(frozen=True)
class GrantRight:
    """A missing right."""

    right: Right

    def __str__(self) -> str:
        return f"allow: {self.right}"


@dataclass(frozen=True)
class RevokeRight:
    """A right of one of our roles that the catalog does not declare."""

    binding: AclBinding

    def __str__(self) -> str:
        return f"withdraw: {describe(self.binding)}"


@dataclass(frozen=True)
class RightsPlan:
    """Changes of rights, and the rules that are not ours."""

    changes: tuple[GrantRight | RevokeRight, ...]
    foreign: tuple[str, ...]
    """Foreign rules, each as a line for a person."""


def plan_rights(admin: Admin, catalog: Catalog) -> RightsPlan:
    """Compare the brokers' rules with the catalog."""
    with admin.use() as client:
        bindings = admin.ask("access rights", client.describe_acls(EVERY_BINDING))
    declared = principal_rights(catalog)
    actual = {right_of(binding) for binding in bindings}
    unknown = [binding for binding in bindings if right_of(binding) not in declared]
    own = [binding for binding in unknown if _is_ours(catalog, allowed_principal(binding))]
    foreign = sorted(describe(binding) for binding in unknown if binding not in own)
    granted = (GrantRight(right) for right in sorted(declared - actual))
    return RightsPlan((*granted, *map(RevokeRight, own)), tuple(foreign))


def _is_ours(catalog: Catalog, principal: str | None) -> bool:
    return principal is not None and (
        is_role_name(principal) or catalog.principals.are_mapped_to(principal)
    )
