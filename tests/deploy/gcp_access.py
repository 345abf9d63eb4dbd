"""Write `deploy/gcp/access.json` from the access policy: `python -m tests.deploy.gcp_access`.

One entry for each permission and prefix, with the roles that have it: a binding of an IAM policy.
"""

import json
from collections.abc import Iterable

from erasestream.sinks.buckets.access_policy import IMAGES, VAULT, Rule
from tests.paths import ROOT

PATH = ROOT / "deploy/gcp/access.json"


def bindings(rules: Iterable[Rule]) -> list[dict[str, object]]:
    """Return the bindings of a bucket's IAM policy."""
    roles: dict[tuple[str, str], list[str]] = {}
    for rule in rules:
        for action in rule.actions:
            roles.setdefault((str(action), rule.prefix), []).append(str(rule.role))
    return [
        {"action": action, "prefix": prefix, "roles": sorted(members)}
        for (action, prefix), members in sorted(roles.items())
    ]


def document() -> str:
    """Return the file's text."""
    access = {"images": bindings(IMAGES), "vault": bindings(VAULT)}
    return json.dumps(access, indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(document())
