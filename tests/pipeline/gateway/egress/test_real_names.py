"""The fetcher as it is, with the real resolver, in a network of its own."""

import json
import subprocess
import sys
from pathlib import Path

from tests.clients.renamed_host import NAMESPACES
from tests.paths import ROOT
from tests.pipeline.gateway.egress.public_internet import SEARCHED, URLS

PROGRAM = "tests.pipeline.gateway.egress.public_internet"


def test_names_are_resolved_by_the_name_server_and_not_completed(tmp_path: Path) -> None:
    """Only that whose addresses are all public is fetched; a search domain completes none."""
    done = subprocess.run(
        [*NAMESPACES, sys.executable, "-m", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    public, *others = URLS
    failed = dict.fromkeys((*others, SEARCHED), "image_url_failed")
    assert json.loads(done.stdout) == {"found": {public: "a photo", **failed}, "requests": 1}
