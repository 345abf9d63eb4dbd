"""The contract of buckets: `python -m tests.buckets`, on every emulator or on Cloud Storage.

    python -m tests.buckets --buckets example-plain,example-keeping

runs it on two buckets of Cloud Storage, with Application Default Credentials.  It creates and
deletes objects below `contract/` in the first; `docs/cloud-storage.md` creates both.
"""

import argparse
import os
import subprocess
import sys

from tests.buckets.servers import BUCKETS_VARIABLE, EMULATORS, GOOGLE, SERVER_VARIABLE
from tests.paths import ROOT


def main() -> int:
    """Run the contract on each server; return 0 if it holds but for the known deviations."""
    parser = argparse.ArgumentParser(prog="buckets")
    parser.add_argument("--buckets", help="two buckets of Cloud Storage, separated by a comma")
    given = parser.parse_args()
    if given.buckets and given.buckets.count(",") != 1:
        parser.error("two buckets are expected, separated by a comma")
    failed = []
    for server in (GOOGLE,) if given.buckets else EMULATORS:
        sys.stderr.write(f"\n{server}\n")
        environment = {**os.environ, SERVER_VARIABLE: server, BUCKETS_VARIABLE: given.buckets or ""}
        command = [sys.executable, "-m", "pytest", "-n0", "-q", "tests/buckets"]
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            failed.append(server)
    if failed:
        sys.stderr.write(f"The contract does not hold on {', '.join(failed)}.\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
