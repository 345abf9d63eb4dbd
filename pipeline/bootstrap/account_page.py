"""Open the account page of a gateway."""

import os
import time
from collections.abc import Mapping

from erasestream.pipeline.gateway.account_page import routes
from erasestream.pipeline.gateway.account_page.door import Door
from erasestream.pipeline.gateway.account_page.followed_accounts import FollowedAccounts
from erasestream.pipeline.gateway.account_page.owner_account import OwnerAccounts
from erasestream.pipeline.gateway.account_page.owner_keys import OwnerKeys
from erasestream.pipeline.gateway.account_page.page_limits import PageLimits
from erasestream.pipeline.gateway.account_page.pages import Pages
from erasestream.pipeline.gateway.account_page.routes import AccountPageParts
from erasestream.pipeline.gateway.account_page.session import KEY_BYTES, Sessions
from erasestream.pipeline.gateway.account_page.sign_in import KeySignIn
from erasestream.pipeline.gateway.account_page.try_it import try_it
from erasestream.pipeline.gateway.adapter import Adapter, Services
from erasestream.pipeline.gateway.bounded_calls import BoundedCalls
from erasestream.pipeline.settings_sections import GatewaySettings
from erasestream.schemas.clocks import WallClock
from erasestream.sinks.secret_file import read_secret
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.credentials.view import CredentialView
from erasestream.topics.credentials.writer import CredentialWriter


def account_page(
    section: GatewaySettings,
    services: Services,
    *,
    keys: CredentialView,
    key_writer: CredentialWriter,
    consent: ConsentWriter,
    calls: BoundedCalls,
    partitions: Mapping[str, int],
    now: WallClock,
) -> Adapter:
    """Return the page; `partitions` has the counts of `held.L` and `receipts.L`.

    Raises `Refused` if the file of the session key is unsafe.
    """
    door = Door(
        sign_in=KeySignIn(keys, now=now),
        sessions=Sessions(
            _session_key(section), lifetime=section.session, now=now, random=os.urandom
        ),
        callers=services.callers,
        memory=services.memory,
    )
    owner_keys = OwnerKeys(keys, key_writer, calls)
    parts = AccountPageParts(
        lane=section.lane,
        service=section.service,
        door=door,
        limits=PageLimits(door, clock=time.monotonic, now=now),
        accounts=OwnerAccounts(
            consent=consent,
            followed=FollowedAccounts(consent.reader, section.lane, partitions=partitions),
            keys=owner_keys,
            calls=calls,
        ),
        keys=owner_keys,
        uploads_of=services.core.index.recent,
        pages=Pages(service=section.service),
        now=now,
    )
    return routes.adapter(parts, try_it(services, door))


def _session_key(section: GatewaySettings) -> bytes:
    if section.session_key is None:
        return os.urandom(KEY_BYTES)
    return read_secret(section.session_key, size=KEY_BYTES)
