"""Scan `deploy/gcp` with checkov: `python -m tests.deploy.gcp_check`.

checkov is installed into an environment of its own in the cache.  A finding that wants the opposite
of forgetting is muted where it arises, with a reason.  Where Terraform is installed, the format is
checked, too.
"""

import shutil
import subprocess
import sys
import venv

from tests.paths import CACHE, ROOT

CHECKOV = "checkov==3.3.30"
FOLDER = ROOT / "deploy/gcp"
OPTIONS = ("--framework", "terraform", "--compact", "--quiet", "--skip-download")
"""The last: otherwise it would ask its vendor's service for texts."""


def main() -> int:
    """Return 0 if there are no findings."""
    environment = CACHE.resolve() / "terraform" / CHECKOV
    done = environment / "installed"
    if not done.exists():
        shutil.rmtree(environment, ignore_errors=True)
        venv.create(environment, with_pip=True)
        install = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", CHECKOV]
        subprocess.run(install, check=True)
        done.touch()
    commands = [[str(environment / "bin" / "checkov"), "-d", str(FOLDER), *OPTIONS]]
    if terraform := shutil.which("terraform"):
        commands.append([terraform, "fmt", "-check", "-diff", str(FOLDER)])
    return max(subprocess.run(command, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
