"""Files that hold a secret: who may read them.

A secret is refused if another account of this machine can read it:

* No right for others, and no right to write for a group (0600, 0400).
* A group may read (0440, as Kubernetes mounts a secret for `fsGroup`) if no other account belongs
  to it: neither as a member nor as its primary group, in the machine's user database.  An account
  that the database does not list cannot be seen; its group is the operator's to keep.
"""

import grp
import os
import pwd
import stat
from pathlib import Path

from erasestream.schemas.errors import MissingCertificate, Refused

MODES = "readable by this account only (mode 0600, or 0440 for a group of its own)"


def read_secret(path: Path, *, size: int) -> bytes:
    """Read a file of `size` bytes.  Raises `Refused` naming it if it is missing or exposed."""
    try:
        with path.open("rb") as file:
            exposed = is_exposed(os.fstat(file.fileno()))
            secret = file.read(size + 1)
    except OSError as error:
        raise MissingCertificate(f"no file {path}") from error
    if exposed or len(secret) != size:
        raise Refused(f"{path} must hold {size} bytes and be {MODES}")
    return secret


def is_exposed(status: os.stat_result) -> bool:
    """Return whether another account can read this file, or a group change it."""
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
        return True
    return bool(status.st_mode & stat.S_IRGRP) and _has_other_accounts(status.st_gid)


def _has_other_accounts(gid: int) -> bool:
    own = os.geteuid()
    if any(account.pw_gid == gid and account.pw_uid != own for account in pwd.getpwall()):
        return True
    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:
        return False  # a group that only the process has
    names = {account.pw_name for account in pwd.getpwall() if account.pw_uid == own}
    return not names.issuperset(members)
