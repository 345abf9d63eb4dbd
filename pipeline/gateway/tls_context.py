"""TLS for customers' clients: 1.3 and 1.2, with AEAD and forward secrecy only.

The certificate is read again once its files have changed.  Connections go on with what they began
with; new ones get the new certificate.
"""

import hashlib
import ssl
from pathlib import Path

from erasestream.schemas.errors import CertificateRefused, MissingCertificate
from erasestream.topics.kafka.tls import TLS_1_2_SUITES


class ServerTls:
    """The context of a server, and the certificate in it.  `renew` is called by one thread."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read the certificate.  Raises `MissingCertificate` or `CertificateRefused`."""
        for path in (certificate, key):
            if not path.is_file():
                raise MissingCertificate(f"no file {path}")
        self._files = certificate, key
        self._known = self._fingerprint()
        self._current = self._load()
        self.context = self._load()
        # Asked in each handshake, whether the client names a host or not.
        self.context.sni_callback = self._choose

    def renew(self) -> bool:
        """Use the certificate in the files if it is another; return whether it is.

        Files that do not fit together yet are read again the next time.
        """
        found = self._fingerprint()
        if found == self._known:
            return False
        try:
            self._current = self._load()
        except CertificateRefused:
            return False
        self._known = found
        return True

    def _choose(self, handshake: ssl.SSLObject, _host: str | None, _: ssl.SSLContext) -> None:
        handshake.context = self._current

    def _fingerprint(self) -> bytes:
        try:
            return b"".join(hashlib.sha256(path.read_bytes()).digest() for path in self._files)
        except OSError:
            return b""

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(TLS_1_2_SUITES)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(*self._files, password=_refuse_pass_phrase)
        except (ssl.SSLError, OSError):
            raise CertificateRefused(f"{self._files[0]} and its key") from None
        return context


def _refuse_pass_phrase() -> str:
    raise CertificateRefused("a key without a pass phrase is needed")
