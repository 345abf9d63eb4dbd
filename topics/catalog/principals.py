"""Principals: the names by which the brokers know the roles.

A role's own name, if it is that of its certificate or user.  A service that names its users
itself (`sa-4711`, `CN=shop.producer,O=Shop`, an e-mail address) needs the mapping.  One role may
have several principals, one for each of a lane's services, say; no principal has two roles, because
it would have the rights of both.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from erasestream.schemas.errors import Refused
from erasestream.topics.catalog.roles import Role


@dataclass(frozen=True)
class Principals:
    """Names of the principals by role, without the prefix `User:`."""

    names: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)

    def of(self, role: Role) -> tuple[str, ...]:
        """Return the principals that have this role."""
        return self.names.get(role, (role,))

    def are_mapped_to(self, name: str) -> bool:
        """Return whether some role is mapped to this principal."""
        return any(name in names for names in self.names.values())

    def check(self, roles: Iterable[Role]) -> None:
        """Raise `Refused` for an unknown role, or a principal that is no name or has two roles."""
        roles = tuple(roles)
        if unknown := sorted(set(self.names) - set(roles)):
            raise Refused(f"principals: there is no role {unknown[0]}")
        count = Counter(name for role in roles for name in self.of(role))
        for name, times in sorted(count.items()):
            if not name or name == "*" or name.startswith("User:"):
                raise Refused(f"principals: {name!r} is not the name of one user")
            if times > 1:
                raise Refused(f"principals: {name} would have {times} roles")
        if empty := [role for role in roles if not self.of(role)]:
            raise Refused(f"principals: the role {empty[0]} has none")
