"""The report: one self-contained HTML file with every picture in it.

Pictures are shown small; the files themselves are stored beside the report.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from erasestream.pipeline.demo.checks import evaluate
from erasestream.pipeline.demo.observations import Observations
from erasestream.pipeline.demo.report_rows import (
    SPAN_TITLES,
    broker_rows,
    format_hours,
    key_bar,
    object_rows,
    photo_cards,
    screenshot_rows,
    topic_rows,
)
from erasestream.pipeline.demo.scenario import OPTED_IN, SENDERS
from erasestream.pipeline.demo.screenshots import NONE, Screenshots

HERE = Path(__file__).parent
TEMPLATE = "report.html"
FLOW = "flow.svg"


def write(path: Path, observed: Observations, account_pages: Screenshots) -> Path:
    """Write the report, and return its path."""
    path.write_text(render(observed, account_pages), encoding="utf-8")
    return path


def render(observed: Observations, account_pages: Screenshots = NONE) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    checks, policy = evaluate(observed), observed.policy
    return environment.get_template(TEMPLATE).render(
        observed=observed,
        checks=checks,
        failing=[check for check in checks if not check.holds],
        # A file of this package, not untrusted text.
        flow=Markup((HERE / FLOW).read_text(encoding="utf-8")),  # noqa: S704
        cards=photo_cards(observed),
        spans=SPAN_TITLES,
        topics=topic_rows(observed.topics, policy.promise_s),
        objects=object_rows(observed),
        on_broker=broker_rows(observed),
        key_bar=key_bar(observed.keys),
        screenshots=list(screenshot_rows(account_pages)),
        no_screenshots=account_pages.missing,
        opted_in=OPTED_IN,
        others=[sender for sender in SENDERS if sender is not OPTED_IN],
        promise=format_hours(policy.promise_s),
        reserve=format_hours(policy.reserve_s),
        budget_percent=100 * policy.budget_s / policy.promise_s,
    )
