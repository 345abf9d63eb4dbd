"""Visitors of the demo's gateway: API keys for two owners, and for the person at the terminal."""

from pathlib import Path
from typing import NamedTuple

from erasestream.pipeline.bootstrap.credentials import open_credential_writer
from erasestream.pipeline.bootstrap.receipts import receipts_of
from erasestream.pipeline.demo.scenario import NOT_OPTED_IN, OPTED_IN, SHOP, Sender
from erasestream.pipeline.demo.screenshots import Screenshots, take
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import GATEWAY
from erasestream.pipeline.settings import load
from erasestream.schemas.events.credentials import CredentialKind


class Invitation(NamedTuple):
    """All that a person needs to use the gateway, as the account that did not opt in."""

    url: str
    authority: Path
    """Certificate that clients trust."""
    image_key: str
    owner_key: str
    photo: Path
    """A photo to try it with."""
    log_key: str
    """Public key of the log that has the receipts."""
    auditor_key: str
    """Public key of its auditor."""


class Keys(NamedTuple):
    """Keys of the lane that the gateway serves."""

    image: str
    owners: dict[Sender, str]


def issue_keys(stack: Stack) -> Keys:
    """Issue keys.  A gateway that starts later knows them from its beginning on."""
    with open_credential_writer(load(stack.files.settings), SHOP) as writer:
        owners = {
            sender: writer.create(sender.account, CredentialKind.OWNER).text
            for sender in (NOT_OPTED_IN, OPTED_IN)
        }
        return Keys(writer.create(NOT_OPTED_IN.account, CredentialKind.IMAGE).text, owners)


def screenshots(stack: Stack, keys: Keys) -> Screenshots:
    """Take screenshots of both owners' account pages."""
    certificate = stack.files.identities / f"{GATEWAY}.crt"
    owners = {sender.title: key for sender, key in keys.owners.items()}
    return take(stack.gateway_url, certificate, owners)


def invitation(stack: Stack, keys: Keys, photo: Path) -> Invitation:
    """Return the invitation to the running gateway."""
    receipts = receipts_of(load(stack.files.settings))
    return Invitation(
        url=stack.gateway_url,
        authority=stack.files.identities / "ca.crt",
        image_key=keys.image,
        owner_key=keys.owners[NOT_OPTED_IN],
        photo=photo,
        log_key=receipts.log_key,
        auditor_key=receipts.auditor_key,
    )
