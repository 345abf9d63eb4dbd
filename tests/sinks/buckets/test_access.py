"""Rights on the buckets: what each role may do, what is absent, and the check at the start."""

import re
import uuid
from typing import Any

import pytest

from erasestream.schemas.errors import Code, Refused
from erasestream.sinks.buckets.access_policy import IMAGES, VAULT, Action, Role, Rule, rules_of
from tests.sinks.conftest import code_of

OCTETS = "application/octet-stream"

# The rights of each role, stated independently: (bucket, role, name) -> granted actions.
# `see` is the right to read configuration and IAM policy.
RIGHTS = {
    ("images", Role.SINK, "o/g/x"): "create see",
    ("images", Role.READER, "o/g/x"): "read list",
    ("images", Role.ERASER, "o/g/x"): "list delete see",
    ("images", Role.ROTATOR, "o/g/x"): "",
    ("images", Role.AUDITOR, "o/g/x"): "read list see",
    ("images", Role.KEYS, "o/g/x"): "",
    ("vault", Role.SINK, "keys/g/1"): "create read list see",
    ("vault", Role.SINK, "erased/g"): "read list see",
    ("vault", Role.READER, "keys/g/1"): "read list",
    ("vault", Role.READER, "erased/g"): "read list",
    ("vault", Role.ERASER, "keys/g/1"): "list delete see",
    ("vault", Role.ERASER, "erased/g"): "list create read see",
    ("vault", Role.ROTATOR, "keys/g/1"): "create overwrite read list delete see",
    ("vault", Role.ROTATOR, "erased/g"): "read list see",
    ("vault", Role.AUDITOR, "keys/g/1"): "list see",
    ("vault", Role.AUDITOR, "erased/g"): "list see",
    ("vault", Role.KEYS, "keys/g/1"): "list see",
    ("vault", Role.KEYS, "erased/g"): "list see",
    **{
        ("vault", role, f"{prefix}/sink/7"): {
            Role.KEYS: "create overwrite read list delete see",
            Role.READER: "list",
        }.get(role, "list see")
        for role in Role
        for prefix in ("epochs", "destroyed")
    },
    **{
        ("vault", role, "masters/7"): {
            Role.ROTATOR: "create list see",
            Role.READER: "list",
        }.get(role, "list see")
        for role in Role
    },
    **{
        ("vault", role, f"log/{folder}/7"): {
            Role.ERASER: "create read list see",
            Role.AUDITOR: "read list see",
            Role.READER: "list",
        }.get(role, "list see")
        for role in Role
        for folder in ("batches", "checkpoints", "ids", "tile")
    },
    **{
        ("vault", role, "log/cosignatures/7"): {
            Role.ERASER: "read list see",
            Role.AUDITOR: "create read list see",
            Role.READER: "list",
        }.get(role, "list see")
        for role in Role
    },
    **{
        ("vault", role, "places/7"): {
            Role.ERASER: "create read list see",
            Role.READER: "list",
        }.get(role, "list see")
        for role in Role
    },
    **{
        ("vault", role, "elsewhere/x"): "list" if role is Role.READER else "list see"
        for role in Role
    },
}


@pytest.mark.parametrize(("case", "allowed"), RIGHTS.items(), ids=str)
def test_each_role_has_exactly_its_rights(
    stack: Any, case: tuple[str, Role, str], allowed: str
) -> None:
    """Every action of every role is granted, or refused as not authorized."""
    bucket, role, name = case
    store = stack.store(bucket, role)
    name = f"{name}-{role}"

    def overwrite() -> None:
        """Upload without the precondition that our store always sets."""
        with store._operations.run(60, absent=store._operations.missing):
            store._bucket.blob(name).upload_from_string(b"y", retry=None)

    results = {
        "create": code_of(lambda: store.create(name, b"x", OCTETS)),
        "overwrite": code_of(overwrite),
        "read": code_of(lambda: store.read(name, 10)),
        "list": code_of(lambda: list(store.list(name))),
        "see": code_of(store.verify_private),
        "delete": code_of(lambda: store.delete(name)),
    }
    refused = {action for action, code in results.items() if code is Code.NOT_AUTHORIZED}
    assert refused == set(results) - set(allowed.split())
    assert set(results.values()) <= {Code.NOT_AUTHORIZED, Code.NOT_FOUND, None}


def test_an_absent_object_is_denied_to_a_role_that_may_not_list(stack: Any) -> None:
    """As by Cloud Storage; only a role that may list the bucket learns that it is absent."""
    name = f"erased/{uuid.uuid4()}"
    blind, seeing = stack.store("blind", Role.READER), stack.store("vault", Role.READER)
    assert code_of(lambda: blind.exists(name)) is Code.NOT_AUTHORIZED
    assert code_of(lambda: blind.read(name, 1)) is Code.NOT_AUTHORIZED
    assert not seeing.exists(name)
    assert code_of(lambda: seeing.read(name, 1)) is Code.NOT_FOUND
    stack.store("blind", Role.ERASER).create(name, b"", OCTETS)
    assert blind.exists(name)


def test_another_answer_of_404_does_not_make_an_object_absent(stack: Any) -> None:
    """It is that of a wrong address, or of a proxy before the bucket."""
    store = stack.store("open", Role.ROTATOR)
    store._client._connection.API_BASE_URL += "/elsewhere"
    with pytest.raises(Refused) as caught:
        store.exists("absent")
    assert caught.value.code is Code.MISSING_BUCKET


@pytest.mark.parametrize("role", list(Role))
def test_the_check_accepts_the_policy_and_leaves_nothing(launch: Any, role: Role) -> None:
    own = launch()
    for bucket, policy in (("images", IMAGES), ("vault", VAULT)):
        own.store(bucket, role).check(rules_of(policy, role))
        assert list(own.store(bucket, Role.AUDITOR).list("")) == []


@pytest.mark.parametrize(
    ("action", "prefix"),
    [
        (Action.CREATE, "erased/"),
        (Action.READ, "elsewhere/"),
        (Action.DELETE, "keys/"),
    ],
)
def test_the_check_names_the_right_that_is_missing(stack: Any, action: Action, prefix: str) -> None:
    """A right on other names, or on the whole bucket, is not mistaken for it."""
    store = stack.store("vault", Role.SINK)
    wanted = Rule(Role.SINK, frozenset({action}), prefix)
    with pytest.raises(Refused, match=re.escape(f"vault: {action} on {prefix}*")) as caught:
        store.check([*rules_of(VAULT, Role.SINK), wanted])
    assert caught.value.code is Code.NOT_AUTHORIZED


@pytest.mark.parametrize("action", [Action.CONFIGURATION, Action.POLICY])
def test_the_check_names_a_missing_right_to_see_the_bucket(stack: Any, action: Action) -> None:
    store = stack.store("vault", Role.READER)
    with pytest.raises(Refused, match=re.escape(f"vault: {action} on *")):
        store.check([Rule(Role.READER, frozenset({action}))])


def test_the_check_requires_that_the_role_can_tell_absent_from_denied(stack: Any) -> None:
    with pytest.raises(Refused, match=r"blind: storage\.objects\.list on \*"):
        stack.store("blind", Role.READER).check(rules_of(VAULT, Role.READER))
