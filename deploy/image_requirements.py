"""What the image installs: the part of requirements/dev.txt that the services need.

    python deploy/image_requirements.py > requirements/image.txt

Starts from the project's dependencies, the extras `worker` and `sink`, and what the local
bucket server runs on; follows the installed packages' own declarations.  Versions and hashes
stay those of dev.txt, so what was tested is what runs.
"""

import re
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("cli", "worker", "sink")
BUCKET_SERVER = ("starlette", "uvicorn")
HEADER = "# Made by deploy/image_requirements.py from dev.txt; tests/deploy compares.\n"


def wanted() -> set[str]:
    """The names of all packages that the image needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *BUCKET_SERVER]
    lines += [line for extra in EXTRAS for line in optional[extra]]
    queue = [Requirement(line) for line in lines]
    queue = [requirement for requirement in queue if requirement.name != project["name"]]
    seen: set[tuple[str, str]] = set()
    while queue:
        requirement = queue.pop()
        for extra in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), extra)
            if key not in seen:
                seen.add(key)
                queue += _needs(*key)
    return {name for name, _ in seen}


def _needs(name: str, extra: str) -> list[Requirement]:
    """What an installed package says that it needs, on Linux, with this extra."""
    declared = map(Requirement, requires(name) or ())
    return [each for each in declared if not each.marker or each.marker.evaluate({"extra": extra})]


def text() -> str:
    """The file: the blocks of dev.txt whose package is wanted."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (ROOT / "requirements/dev.txt").read_text())
    names = wanted()
    kept = [block for block in blocks if canonicalize_name(block.partition("==")[0]) in names]
    if missing := names - {canonicalize_name(block.partition("==")[0]) for block in kept}:
        sys.exit(f"requirements/dev.txt does not have {', '.join(sorted(missing))}")
    return HEADER + "".join(kept)


if __name__ == "__main__":
    sys.stdout.write(text())
