"""An environment of its own for the built wheel, without a network.

The distributions that the wheel and one of its extras require are linked from the environment
that runs the tests, file by file.  `uv` then resolves and installs the wheel there, offline and
without an index, so a requirement that the wheel does not declare is missing.
"""

import os
import subprocess
import sys
import venv
import zipfile
from email.parser import HeaderParser
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import ROOT

COMMAND_TIMEOUT_S = 120
UV = str(Path(sys.executable).parent / "uv")


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout into the folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


class Environment:
    """A virtual environment with the wheel, one of its extras, and nothing else."""

    def __init__(self, wheel: Path, extra: str, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        (self.site,) = folder.glob("lib/python*/site-packages")
        self.distributions = _required(wheel, extra)
        for each in self.distributions.values():
            _link(each, self.site)
        named = f"erasestream[{extra}]" if extra else "erasestream"
        self._uv("pip", "install", f"{named} @ {wheel.as_uri()}")

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment; neither the checkout nor settings are in reach."""
        return subprocess.run(
            [str(self.bin / arguments[0]), *arguments[1:]],
            cwd=cwd,
            env={"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(cwd)},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def _uv(self, *arguments: str) -> None:
        ran = subprocess.run(
            [UV, *arguments, "--quiet", "--offline", "--no-index", "--no-cache"],
            env={"PATH": os.environ["PATH"], "VIRTUAL_ENV": str(self.bin.parent)},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr


def _required(wheel: Path, extra: str) -> dict[str, Distribution]:
    """Return every distribution that the wheel needs with this extra, as installed here."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    of_wheel = metadata.get_all("Requires-Dist", [])
    queue, seen = [("erasestream", extra)], {("erasestream", extra)}
    while queue:
        name, wanted = queue.pop()
        lines = of_wheel if name == "erasestream" else distribution(name).requires or []
        for requirement in map(Requirement, lines):
            if requirement.marker and not requirement.marker.evaluate({"extra": wanted}):
                continue
            for of in ("", *requirement.extras):
                if (key := (canonicalize_name(requirement.name), of)) not in seen:
                    seen.add(key)
                    queue.append(key)
    return {name: distribution(name) for name, _ in seen if name != "erasestream"}


def _link(each: Distribution, site: Path) -> None:
    """Link the files of one distribution; those outside site-packages are commands, left out."""
    for file in each.files or ():
        if ".." in file.parts:
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(Path(str(each.locate_file(file))))
