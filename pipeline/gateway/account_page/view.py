"""All that the main page shows of an account, as its template takes it.  Pure."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from starlette.responses import Response

from erasestream.pipeline.gateway.account_page.erasure_steps import is_finished, steps_of
from erasestream.pipeline.gateway.account_page.owner_account import AccountState
from erasestream.pipeline.gateway.account_page.pages import Pages, day
from erasestream.schemas.ids import AccountId
from erasestream.topics.credentials.table import Credential
from erasestream.topics.credentials.token import Token, prefix
from erasestream.topics.index.owners import LIFE

MAX_SHOWN = 20
"""Uploads, or days, that are listed one by one."""
CHART_DAYS = 30
CHART_HOURS = 24
CHART_HEIGHT = 40
_HOUR = timedelta(hours=1)


class Bar(NamedTuple):
    """One bar of a chart."""

    label: str
    number: int
    height: int
    """Up to `CHART_HEIGHT`; at least 2 unless there is nothing."""


def overview(
    pages: Pages,
    *,
    state: AccountState,
    uploads: Sequence[datetime],
    keys: Sequence[Credential],
    created: Token | None,
    now: datetime,
    account: AccountId,
    csrf: str,
    proof: str,
) -> Response:
    """Return the main page; `csrf` is the session's token, `proof` the key in use."""
    return pages.page(
        "account.html",
        account=account,
        csrf=csrf,
        proof=proof,
        state=state,
        erasures=[(each, steps_of(each)) for each in state.erasures],
        is_erasing=not is_finished(state.erasures),
        keys=keys,
        key_prefix=prefix,
        created=created,
        held_count=sum(state.held.values()),
        held_days=list(state.held.items()),
        held_chart=by_day(state.held, now),
        uploads=[(each, each + LIFE) for each in uploads],
        upload_chart=by_hour([each + LIFE for each in uploads], now),
        max_shown=MAX_SHOWN,
    )


def by_day(held: Mapping[date, int], now: datetime) -> list[Bar]:
    """Return how many uploads were kept on each of the last days."""
    days = [now.date() - timedelta(days=n) for n in reversed(range(CHART_DAYS))]
    return _bars({day(each): held.get(each, 0) for each in days})


def by_hour(gone: Sequence[datetime], now: datetime) -> list[Bar]:
    """Return how many uploads are gone in each of the next hours."""
    counts = dict.fromkeys((f"in {n + 1} h" for n in range(CHART_HOURS)), 0)
    for each in gone:
        n = min(max((each - now) // _HOUR, 0), CHART_HOURS - 1)
        counts[f"in {n + 1} h"] += 1
    return _bars(counts)


def _bars(counts: Mapping[str, int]) -> list[Bar]:
    most = max(counts.values(), default=0)
    return [
        Bar(label, count, max(2, round(CHART_HEIGHT * count / most)) if count else 0)
        for label, count in counts.items()
    ]
