"""Client quotas in the plan of provisioning.

The principals of the catalog's roles get the declared limits; all other quotas stay as they are.
A cluster that does not let the administrator set quotas is provisioned without them, and the plan
names the missing ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from erasestream.schemas.errors import NotAuthorized
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.client_quotas import ClientQuotas, Quotas, QuotasNotOffered


@dataclass(frozen=True)
class SetQuota:
    """A limit of a role's principal that differs from the declared one."""

    principal: str
    name: str
    actual: float | None
    declared: float

    def __str__(self) -> str:
        before = "none" if self.actual is None else f"{self.actual:.0f}"
        return f"limit {self.name} of {self.principal} from {before} to {self.declared:.0f}"


@dataclass(frozen=True)
class QuotaPlan:
    """Limits to be set, and those that this cluster does not let anyone set."""

    changes: tuple[SetQuota, ...]
    not_settable: tuple[SetQuota, ...] = ()


def plan_quotas(admin: Admin, catalog: Catalog) -> QuotaPlan:
    """Compare the brokers' quotas with the catalog."""
    quotas = ClientQuotas(admin.connection, timeout_s=admin.timeout_s)
    try:
        actual = quotas.of_users()
    except (QuotasNotOffered, NotAuthorized):
        return QuotaPlan((), _missing(catalog, {}))
    return QuotaPlan(_missing(catalog, actual))


def set_quotas(admin: Admin, changes: Iterable[SetQuota]) -> None:
    """Set the limits, in one request."""
    values: dict[str, dict[str, float]] = {}
    for change in changes:
        values.setdefault(change.principal, {})[change.name] = change.declared
    ClientQuotas(admin.connection, timeout_s=admin.timeout_s).set_for_users(values)


def _missing(catalog: Catalog, actual: Quotas) -> tuple[SetQuota, ...]:
    return tuple(
        SetQuota(principal, name, actual.get(principal, {}).get(name), limit)
        for role, limits in catalog.quotas.items()
        for principal in catalog.principals.of(role)
        for name, limit in limits.items()
        if actual.get(principal, {}).get(name) != limit
    )
