"""A public internet in a network namespace: `python -m ... FOLDER` prints what is fetched in it.

Two addresses that are public elsewhere are on its loopback, with a name server and an HTTPS server,
so that the fetcher runs as it is, with the real resolver.
"""

import asyncio
import json
import socketserver
import struct
import subprocess
import sys
import threading
from ipaddress import ip_address
from pathlib import Path

from erasestream.pipeline.gateway.egress.fetchers import Fetchers
from erasestream.pipeline.gateway.problems import Problem
from erasestream.schemas.ids import AccountId
from tests.pipeline.gateway.egress.image_site import HOST, PRIVATE, PUBLIC, ImageSite, ok

NAMES = {
    HOST: [PUBLIC],
    "private.example": [PRIVATE],
    "both.example": [PUBLIC, PRIVATE],
    "site.searched.example": [PUBLIC],
}
"""Addresses of each name; the last one exists only with the search domain of the machine."""
URLS = (f"https://{HOST}/a", "https://private.example/a", "https://both.example/a")
SEARCHED = "https://site.searched/a"
TYPE_A = 1


class NameServer(socketserver.BaseRequestHandler):
    """Answers questions for addresses (RFC 1035, section 4); all other names do not exist."""

    def handle(self) -> None:
        query, socket = self.request
        labels, at = [], 12
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode().lower())
            at += 1 + length
        (kind,) = struct.unpack_from("!H", query, at + 1)
        addresses = NAMES.get(".".join(labels))
        found = addresses if addresses and kind == TYPE_A else []
        flags = 0x8180 if addresses else 0x8183
        head = query[:2] + struct.pack("!5H", flags, 1, len(found), 0, 0)
        records = [
            struct.pack("!HHHIH", 0xC00C, TYPE_A, 1, 60, 4) + ip_address(each).packed
            for each in found
        ]
        socket.sendto(head + query[12 : at + 5] + b"".join(records), self.client_address)


async def outcomes(site: ImageSite) -> dict[str, str]:
    """Return what each URL gives: an image, or the code of a problem."""
    fetchers = Fetchers(site.authorities, timeout_s=60)
    found = {}
    for url in (*URLS, SEARCHED):
        try:
            found[url] = (await fetchers.fetch(url, AccountId("alice"))).decode()
        except Problem as error:
            found[url] = error.code
    return found


def main(folder: Path) -> None:
    for command in (
        "ip link set lo up",
        f"ip address add {PUBLIC}/32 dev lo",
        f"ip address add {PRIVATE}/32 dev lo",
    ):
        subprocess.run(command.split(), check=True)
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch example\noptions ndots:5\n")
    resolver = Path("/etc/resolv.conf").resolve()
    subprocess.run(["mount", "--bind", folder / "resolv.conf", resolver], check=True)
    site = ImageSite(folder)
    site.answers["/a"] = ok(b"a photo")
    with (
        socketserver.ThreadingUDPServer(("127.0.0.1", 53), NameServer) as names,
        site.serving(("0.0.0.0", 443)),  # noqa: S104 (all that there is, is loopback)
    ):
        threading.Thread(target=names.serve_forever, args=(0.05,)).start()
        found = asyncio.run(outcomes(site))
        names.shutdown()
    print(json.dumps({"found": found, "requests": len(site.requests)}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
