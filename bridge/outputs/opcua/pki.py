"""The server's own certificate: made at the first start, renewed before it ends, or the user's own."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.errors import StartError
from bridge.outputs.opcua.users import replace_file

_log = structlog.get_logger(__name__)

KEY_BITS = range(2048, 4097)
"""What all three policies allow for an RSA key (OPC UA Part 7)."""
VALID = timedelta(days=5 * 365)
RENEWED_BEFORE = timedelta(days=30)
TOLD_BEFORE = timedelta(days=90)
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
)
"""What reading a certificate raises, its extensions included."""
_BACKDATED = timedelta(days=1)  # for clients whose clock runs behind
_MAKER = "Linegate"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCertificate:
    """The certificate that this server shows, with its key; `uri` is the application URI in it."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    uri: str
    made: bool = False
    """Whether it was made just now, for the first time."""

    @property
    def is_ours(self) -> bool:
        """Whether it was made here: the user's own is never touched."""
        makers = self.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return self.certificate.issuer == self.certificate.subject and [each.value for each in makers] == [_MAKER]

    @property
    def hosts(self) -> frozenset[str]:
        """The names and addresses in it."""
        names = _alternative_names(self.certificate)
        addresses = names.get_values_for_type(x509.IPAddress)
        return frozenset([*names.get_values_for_type(x509.DNSName), *(str(each) for each in addresses)])


def own_certificate(folder: Path, *, hosts: Sequence[str], host: str, line: str, now: datetime) -> OwnCertificate:
    """Give the certificate in `folder`/own; make it, or renew one made here, where that is needed.

    Without `hosts` it names this machine and `host`, and keeps its names when the machine is called otherwise: a container
    gets a new name with each start, and its clients would have to trust it anew.
    Raises StartError for files that can't be read or written or don't belong together.
    """
    certificate_file, key_file = folder / "own" / "cert.der", folder / "own" / "key.pem"
    try:
        if certificate_file.exists() and not key_file.exists():
            raise StartError(f"{key_file} is missing: put the key of {certificate_file} there, or remove both")
        if not certificate_file.exists():
            return _make(certificate_file, key_file, hosts=hosts or _default_hosts(host), line=line, now=now)
        own = _load(certificate_file, key_file)
        ends_soon = own.certificate.not_valid_after_utc - now < RENEWED_BEFORE
        if own.is_ours and (ends_soon or (hosts and own.hosts != frozenset(hosts))):
            why = "it ends soon" if ends_soon else "hosts have changed"
            own = _issue(certificate_file, own.key, uri=own.uri, hosts=hosts or sorted(own.hosts), now=now)
            _log.warning("opcua_certificate_renewed", file=str(certificate_file), why=why, until=until(own))
    except OSError as exc:
        raise StartError(f"opcua.pki_folder = {str(folder)!r}: {exc.filename or folder}: {exc.strerror}") from exc
    return own


def _default_hosts(endpoint_host: str) -> tuple[str, ...]:
    """Give the names by which this machine is reached where the configuration names none."""
    name = socket.gethostname()
    anywhere = endpoint_host in ("0.0.0.0", "::", "")
    wanted = [name, "localhost", "127.0.0.1", *([] if anywhere else [endpoint_host])]
    return tuple(dict.fromkeys(each for each in wanted if each))


def ending_text(own: OwnCertificate, now: datetime) -> str:
    """Say when the certificate ends, if that is near; else nothing."""
    left = own.certificate.not_valid_after_utc - now
    if left >= TOLD_BEFORE:
        return ""
    then = "is renewed 30 days before and clients must trust it anew" if own.is_ours else "put a new one into own/"
    return f"the server's certificate ends {until(own)}: {then}"


def until(own: OwnCertificate) -> str:
    """Give the day on which it ends."""
    return own.certificate.not_valid_after_utc.date().isoformat()


def _make(certificate_file: Path, key_file: Path, *, hosts: Sequence[str], line: str, now: datetime) -> OwnCertificate:
    """Make a certificate, and a key unless a start that was cut off has left one."""
    certificate_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if key_file.exists():
        key = _load_key(key_file)
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS.start)
        replace_file(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    own = _issue(certificate_file, key, uri=f"urn:{socket.gethostname()}:linegate:{line}", hosts=hosts, now=now)
    return replace(own, made=True)


def _issue(file: Path, key: rsa.RSAPrivateKey, *, uri: str, hosts: Sequence[str], now: datetime) -> OwnCertificate:
    """Sign a certificate with its own key, as OPC UA Part 6, 6.2.2 describes it, and write it."""
    host = next(iter(hosts), "localhost")
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"{_MAKER}@{host}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _MAKER),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,  # by its own key
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    serial, identifier = x509.random_serial_number(), x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer = x509.AuthorityKeyIdentifier(identifier.digest, [x509.DirectoryName(name)], serial)
    alternative = [x509.UniformResourceIdentifier(uri), *(_general_name(each) for each in hosts)]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, now - _BACKDATED, now + VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(issuer, critical=False)
        .sign(key, hashes.SHA256())
    )
    replace_file(file, certificate.public_bytes(Encoding.DER), mode=0o644)
    return OwnCertificate(certificate=certificate, key=key, uri=uri)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _load(certificate_file: Path, key_file: Path) -> OwnCertificate:
    try:
        certificate = read_certificate(certificate_file.read_bytes())
        uris = _alternative_names(certificate).get_values_for_type(x509.UniformResourceIdentifier)
    except MALFORMED as exc:
        raise StartError(f"{certificate_file}: not a certificate (DER or PEM): {exc}") from exc
    key = _load_key(key_file)
    if certificate.public_key() != key.public_key():
        raise StartError(f"{key_file} is not the key of {certificate_file}: put both of one pair there, or remove both")
    if key.key_size not in KEY_BITS:
        raise StartError(f"{key_file}: an RSA key of {key.key_size} bits: allowed are 2048 to 4096")
    if not uris:
        raise StartError(f"{certificate_file}: no application URI among its alternative names (OPC UA Part 6, 6.2.2)")
    return OwnCertificate(certificate=certificate, key=key, uri=uris[0])


def _load_key(key_file: Path) -> rsa.RSAPrivateKey:
    content = key_file.read_bytes()
    if key_file.stat().st_mode & 0o077:
        _log.warning("opcua_key_readable_by_others", file=str(key_file), do="chmod 600")
    try:
        read = load_pem_private_key if b"-----BEGIN" in content else load_der_private_key
        key = read(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise StartError(f"{key_file}: not a private key without a password: {exc}") from exc
    if not isinstance(key, rsa.RSAPrivateKey):
        raise StartError(f"{key_file}: not an RSA key")
    return key


def read_certificate(content: bytes) -> x509.Certificate:
    """Read one certificate, DER or PEM; raises one of MALFORMED."""
    read = x509.load_pem_x509_certificate if b"-----BEGIN" in content else x509.load_der_x509_certificate
    return read(content)


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def application_uris(certificate: x509.Certificate) -> list[str]:
    """Give the application URIs in a certificate; raises one of MALFORMED for extensions that can't be read."""
    return _alternative_names(certificate).get_values_for_type(x509.UniformResourceIdentifier)
