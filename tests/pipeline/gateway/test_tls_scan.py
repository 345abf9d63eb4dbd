"""sslscan, a program of others, finds nothing weak at the server.

Its Debian package is installed by `.ci/run`; without it this test fails.
"""

import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.pipeline.gateway.test_https_server import HOST, Served, served

__all__ = ["served"]

TIMEOUT_S = 300
AEAD = ("GCM", "CHACHA20", "CCM")


def scan(served: Served, report: Path) -> ET.Element:
    address = f"{HOST}:{served.server.port}"
    command = ["sslscan", "--show-sigs", f"--xml={report}", address]
    subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S)
    found = ET.parse(report).getroot().find("ssltest")  # noqa: S314 (our own scan)
    assert found is not None
    return found


def test_sslscan_finds_nothing_weak(served: Served, tmp_path: Path) -> None:
    found = scan(served, tmp_path / "report.xml")
    protocols = {
        f"{each.get('type')} {each.get('version')}": each.get("enabled") == "1"
        for each in found.iter("protocol")
    }
    assert {name for name, enabled in protocols.items() if enabled} == {"tls 1.2", "tls 1.3"}
    assert protocols.keys() >= {"ssl 2", "ssl 3", "tls 1.0", "tls 1.1"}
    ciphers = list(found.iter("cipher"))
    assert {each.get("sslversion") for each in ciphers} == {"TLSv1.2", "TLSv1.3"}
    for each in ciphers:
        name, strength = each.get("cipher", ""), each.get("strength")
        assert strength in {"strong", "acceptable"}, name
        assert any(mode in name for mode in AEAD), name
        assert each.get("sslversion") == "TLSv1.3" or name.startswith("ECDHE-"), name
        assert int(each.get("bits", "0")) >= 128, name
    for weakness in ("compression", "renegotiation", "heartbleed"):
        flags = [(each.get("supported"), each.get("vulnerable")) for each in found.iter(weakness)]
        assert all("1" not in flag for flag in flags), weakness
    assert all(int(each.get("bits", "0")) >= 112 for each in found.iter("group"))
    (certificate,) = found.iter("certificate")
    assert (certificate.findtext("signature-algorithm") or "").startswith("ecdsa-with-SHA")
