"""Install other people's programs that tests run into the cache: `python -m tests.clients.tools`.

The lock file pins what comes from npm.  kcat is the Debian package of this version: the installed
one, or else fetched and unpacked, which needs no root; apt checks its signature.  Java's client is
one of the broker's jars.  `tlog` checks the transparency log with Go modules, pinned by `go.sum`;
a client needs Go's standard library only.
A second call fetches nothing.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from erasestream.schemas.errors import Refused
from tests.paths import CACHE

FILES = Path(__file__).parent
NODE_FILES = ("package.json", "package-lock.json")
REQUIREMENTS = FILES / "requirements.txt"
PYTHON_PACKAGES = CACHE.resolve() / "clients" / "removebg-0.04"
KCAT_VERSION = "1.7.1"
KCAT = CACHE.resolve() / "clients" / f"kcat-{KCAT_VERSION}"
DEBS = ("kcat=1.7.1-2", "librdkafka1=2.0.2-1", "libyajl2")
TLOG_SOURCES = ("go.mod", "go.sum", "main.go")
GO_CLIENT = "upload.go"
TIMEOUT_S = 300


def node_modules() -> Path:
    """Return the folder with npm's packages.  Raises `Refused` if it cannot be fetched."""
    target = KCAT.parent / f"node-{_digest(*NODE_FILES)}"
    _install(target, _fetch_node_packages)
    return target / "node_modules"


def python_packages() -> Path:
    """Return the folder with the package removebg.  Raises `Refused` if it cannot be fetched."""
    _install(PYTHON_PACKAGES, _fetch_python_packages)
    return PYTHON_PACKAGES


def kcat_environment() -> dict[str, str]:
    """Return the variables with which `kcat` is found.  Raises `Refused` if there is none."""
    if shutil.which("kcat"):
        return {"PATH": os.environ["PATH"]}
    _install(KCAT, _fetch_kcat)
    (libraries,) = {str(path.parent) for path in KCAT.glob("usr/lib/*/librdkafka.so.1")}
    return {"PATH": f"{KCAT}/usr/bin:{os.environ['PATH']}", "LD_LIBRARY_PATH": libraries}


def tlog_checker() -> Path:
    """Return the program that checks a log.  Raises `Refused` if it cannot be built."""
    target = KCAT.parent / f"tlog-{_digest(*(f'tlog/{name}' for name in TLOG_SOURCES))}"
    _install(target, _build_tlog_checker)
    return target / "tlog"


def go_client() -> Path:
    """Return the program that uploads a photo.  Raises `Refused` if it cannot be built."""
    target = KCAT.parent / f"go-client-{_digest(GO_CLIENT)}"
    _install(target, _build_go_client)
    return target / "upload"


def _digest(*names: str) -> str:
    """Return a digest of these files, for the name of the folder with what they pin."""
    contents = b"".join((FILES / name).read_bytes() for name in names)
    return hashlib.sha256(contents).hexdigest()[:16]


def _install(target: Path, fetch: Callable[[Path], None]) -> None:
    """Fetch into a draft, so that a folder in its place is always complete."""
    if target.is_dir():
        return
    sys.stderr.write(f"Fetching {target.name} for the tests: at most 5 MB.\n")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as folder:
        draft = Path(folder) / "draft"
        draft.mkdir()
        fetch(draft)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():  # another process was faster
                raise


def _fetch_node_packages(draft: Path) -> None:
    for name in NODE_FILES:
        shutil.copy(FILES / name, draft)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run(["npm", "ci", *options], draft, "npm cannot fetch the packages of tests/clients")


def _fetch_python_packages(draft: Path) -> None:
    options = ["--no-deps", "--require-hashes", "--target", str(draft), "-r", str(REQUIREMENTS)]
    command = [sys.executable, "-m", "uv", "pip", "install", *options]
    _run(command, draft, "uv cannot fetch the package removebg")


def _fetch_kcat(draft: Path) -> None:
    refusal = f"there is no kcat {KCAT_VERSION}, install the Debian package kcat"
    with tempfile.TemporaryDirectory(dir=draft.parent) as folder:
        _run(["apt-get", "download", *DEBS], Path(folder), refusal)
        for package in sorted(Path(folder).glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(draft)], draft, refusal)


def _build_tlog_checker(draft: Path) -> None:
    for name in TLOG_SOURCES:
        shutil.copy(FILES / "tlog" / name, draft)
    command = ["go", "build", "-mod=readonly", "-o", "tlog", "."]
    _run(command, draft, "Go 1.25 or newer cannot build tlog")


def _build_go_client(draft: Path) -> None:
    source = shutil.copy(FILES / GO_CLIENT, draft)
    _run(["go", "build", "-o", "upload", source], draft, "Go cannot build the client")


def _run(command: list[str], folder: Path, refusal: str) -> None:
    try:
        subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=TIMEOUT_S)
    except OSError as error:
        raise Refused(f"{refusal}: {error.strerror}") from error
    except subprocess.SubprocessError as error:
        output = getattr(error, "stderr", None) or b""
        raise Refused(f"{refusal}: {output.decode(errors='replace')[-300:]}") from error


def main() -> None:
    """Install all, and name what cannot be installed."""
    failed = []
    for install in (node_modules, python_packages, kcat_environment, tlog_checker, go_client):
        try:
            install()
        except Refused as error:
            failed.append(f"Only its own test needs it: {error.detail}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
