"""Certificates of a development stack: one authority, one identity per role.

Every part of the project reads an identities folder: `ca.crt`, and per role `<role>.crt` (with
its chain) and `<role>.key` (PKCS#8).  For the broker, which needs key and chain in one file, it
holds `<name>.pem` too.

Rules, all of them:

* The authority's private key stays in its own folder (by convention `authority/`), which no
  stage ever gets.  `ca.crt` is the only file that is copied out of it.
* A role's certificate is valid for clients only, a server's for servers under the host names
  that it was issued for, that of a broker and of the key service for both.  Only the
  authority's own certificate can sign.
* The subject is the role's name only: brokers derive the principal from it.
* Private files have mode 0600 from their first byte on, and appear complete or not at all.

EC P-256 with SHA-256 (RFC 5480), X.509 version 3 (RFC 5280).
"""

import base64
import hashlib
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import MissingCertificate, Refused

BACKDATED = timedelta(minutes=5)
"""A certificate is valid from shortly before its creation: clocks differ a little."""

LOCAL_HOSTS = ("localhost", "127.0.0.1")

_NAME = re.compile(r"[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)?")
_MAX_NAME = 64
"""Upper bound of a common name's length (RFC 5280, appendix A.1)."""


@dataclass(frozen=True, kw_only=True)
class CertificateAuthority:
    """A certificate authority.  `create()` makes a new one, `load()` opens an existing one."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    now: WallClock
    days: int
    """Validity of the certificates that it issues."""

    @classmethod
    def create(cls, directory: Path, *, now: WallClock, days: int = 30) -> "CertificateAuthority":
        """Create an authority, valid for ten times `days`: `ca.crt` and `ca.key` in `directory`.

        Raises `Refused` if one exists already: its certificates would become worthless.
        """
        if (directory / "ca.key").exists() or (directory / "ca.crt").exists():
            raise Refused(f"{directory} already holds an authority")
        key = ec.generate_private_key(ec.SECP256R1())
        name = _subject(f"erasestream-{secrets.token_hex(4)}")
        today = now()
        builder = _dated(today, today + timedelta(days=10 * days))
        builder = builder.subject_name(name).issuer_name(name)
        builder = _with_key_ids(builder, key, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        certificate = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = cls(
            certificate=certificate.sign(key, hashes.SHA256()), key=key, now=now, days=days
        )
        _write(directory / "ca.key", _pkcs8(key), mode=0o600)
        authority.publish(directory)
        return authority

    @classmethod
    def load(cls, directory: Path, *, now: WallClock, days: int = 30) -> "CertificateAuthority":
        """Load the authority that `create()` made.  Raises `Refused` (missing_certificate)."""
        try:
            certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
            key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
        except OSError as error:
            raise MissingCertificate(f"no file {error.filename}") from error
        except ValueError as error:
            raise Refused(f"unreadable authority in {directory}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Refused(f"unreadable authority in {directory}")
        return cls(certificate=certificate, key=key, now=now, days=days)

    def publish(self, identities: Path) -> None:
        """Write `ca.crt`, the trusted root, into a folder of identities."""
        identities.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(identities / "ca.crt", _pem(self.certificate), mode=0o644)

    def issue_role(self, role: str, identities: Path) -> None:
        """Write `<role>.crt`, `<role>.key` and `ca.crt` for a client."""
        self._issue(role, identities, [ExtendedKeyUsageOID.CLIENT_AUTH])

    def issue_server(
        self, name: str, identities: Path, *, hosts: Iterable[str] = LOCAL_HOSTS
    ) -> None:
        """Write the same for a server that is reached under `hosts` (names or IP addresses)."""
        self._issue(name, identities, [ExtendedKeyUsageOID.SERVER_AUTH], hosts)

    def issue_stage_server(self, role: str, identities: Path, *, hosts: Iterable[str]) -> None:
        """Write the same for a stage that is a client of others, and a server under `hosts`."""
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        self._issue(role, identities, usages, hosts)

    def issue_broker(
        self, name: str, identities: Path, *, hosts: Iterable[str] = LOCAL_HOSTS
    ) -> None:
        """Write the same for a broker, also a client of its peers, and `<name>.pem` for Kafka."""
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        key, chain = self._issue(name, identities, usages, hosts)
        _write(identities / f"{name}.pem", key + chain, mode=0o600)

    def _issue(
        self,
        name: str,
        identities: Path,
        usages: list[x509.ObjectIdentifier],
        hosts: Iterable[str] = (),
    ) -> tuple[bytes, bytes]:
        if not _NAME.fullmatch(name) or len(name) > _MAX_NAME or name == "ca":
            raise Refused(f"no certificate can be issued for the name {name!r}")
        now, end = self.now(), self.certificate.not_valid_after_utc
        if now >= end:
            raise Refused("the certificate authority has expired: create a new one")
        key = ec.generate_private_key(ec.SECP256R1())
        # A certificate that outlives its authority is not accepted.
        builder = _dated(now, min(now + timedelta(days=self.days), end))
        builder = builder.subject_name(_subject(name)).issuer_name(self.certificate.subject)
        builder = (
            _with_key_ids(builder, key, self.key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        names = [_general_name(host) for host in hosts]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        chain = _pem(builder.sign(self.key, hashes.SHA256())) + _pem(self.certificate)
        self.publish(identities)
        _write(identities / f"{name}.key", _pkcs8(key), mode=0o600)
        _write(identities / f"{name}.crt", chain, mode=0o644)
        return _pkcs8(key), chain


def public_key_digest(certificate: Path) -> str:
    """Return the SHA-256 of a certificate's public key in Base64, as browsers pin it (RFC 7469)."""
    public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    raw = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(raw).digest()).decode()


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _dated(now: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
    )


def _with_key_ids(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    issuer: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return (
        builder.public_key(key.public_key())
        .add_extension(subject, critical=False)
        .add_extension(authority, critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file completely or not at all, never readable to more users than `mode` allows."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
