"""Convert rights to the brokers' access-control bindings, and back."""

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from erasestream.topics.catalog.acl import Match, Operation, Resource, Right
from erasestream.topics.catalog.roles import Role

__all__ = [
    "EVERY_BINDING",
    "AclBinding",
    "allowed_principal",
    "binding_of",
    "describe",
    "exactly",
    "right_of",
]

EVERY_BINDING = AclBindingFilter(
    ResourceType.ANY,
    None,  # type: ignore[arg-type]  # None is the documented "any"
    ResourcePatternType.ANY,
    None,  # type: ignore[arg-type]
    None,  # type: ignore[arg-type]
    AclOperation.ANY,
    AclPermissionType.ANY,
)


def binding_of(right: Right) -> AclBinding:
    """Return the binding that grants this right."""
    return AclBinding(
        ResourceType[right.resource.upper()],
        right.name,
        ResourcePatternType[right.match.upper()],
        f"User:{right.role}",
        "*",
        AclOperation[right.operation.upper()],
        AclPermissionType.ALLOW,
    )


def exactly(binding: AclBinding) -> AclBindingFilter:
    """Return the filter that matches this binding and no other."""
    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def right_of(binding: AclBinding) -> Right | None:
    """Return the right that a binding grants; None if `binding_of` never creates such a binding."""
    if (
        binding.host != "*"
        or AclPermissionType(binding.permission_type) is not AclPermissionType.ALLOW
        or not binding.principal.startswith("User:")
    ):
        return None
    try:
        return Right(
            Role(binding.principal.removeprefix("User:")),
            Operation(_word(AclOperation(binding.operation))),
            Resource(_word(ResourceType(binding.restype))),
            binding.name,
            Match(_word(ResourcePatternType(binding.resource_pattern_type))),
        )
    except ValueError:
        return None


def allowed_principal(binding: AclBinding) -> str | None:
    """Return the user to whom a rule allows something; None for a DENY or another principal."""
    is_allow = AclPermissionType(binding.permission_type) is AclPermissionType.ALLOW
    kind, _, name = binding.principal.partition(":")
    return name if is_allow and kind == "User" else None


def describe(binding: AclBinding) -> str:
    """Return one line for a person."""
    permission = _word(AclPermissionType(binding.permission_type))
    operation = _word(AclOperation(binding.operation))
    resource = _word(ResourceType(binding.restype))
    pattern = ResourcePatternType(binding.resource_pattern_type)
    star = "*" if pattern is ResourcePatternType.PREFIXED else ""
    host = "" if binding.host == "*" else f" from {binding.host}"
    return f"{binding.principal} {permission} {operation} {resource} {binding.name}{star}{host}"


def _word(
    member: AclOperation | AclPermissionType | ResourceType | ResourcePatternType,
) -> str:
    return member.name.lower()
