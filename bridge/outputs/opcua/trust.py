"""Which client certificates are trusted: folders that an engineer fills, and one that keeps what was refused.

`trusted/certs` holds clients' certificates and authorities whose clients are trusted, `issuers/certs` authorities that
only complete a chain, `trusted/crl` and `issuers/crl` revocation lists, `rejected` the unknown certificates of late.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.outputs.opcua.pki import KEY_BITS, MALFORMED, application_uris, read_certificate
from bridge.outputs.opcua.users import replace_file

FOLDERS = ("trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl", "rejected")
MAX_FILES = 1_000
MAX_BYTES = 65_536
MAX_REJECTED = 32
_DER = Encoding.DER
_WEAK = {"md5", "sha1"}
_OURS = re.compile(r".+\[[0-9A-F]{40}\]\.der")
Mark = tuple[tuple[str, int, int], ...]
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustList:
    """What the folders held when they were last read; `unreadable` are files that are none of theirs."""

    pinned: frozenset[bytes] = frozenset()
    authorities: tuple[x509.Certificate, ...] = ()
    intermediates: tuple[x509.Certificate, ...] = ()
    revocations: tuple[x509.CertificateRevocationList, ...] = ()
    unreadable: tuple[str, ...] = ()

    def fault(self, certificate: x509.Certificate, now: datetime) -> str:
        """Name the standard's status code for which a client's certificate is refused; empty when it is good."""
        try:
            checks = (
                ("BadCertificateInvalid", self._is_strong(certificate)),
                ("BadCertificateUntrusted", self._is_trusted(certificate, now)),
                ("BadCertificateRevoked", not self._is_revoked(certificate)),
                ("BadCertificateTimeInvalid", _is_valid_at(certificate, now)),
                ("BadCertificateUseNotAllowed", _may_be_a_client(certificate)),
            )
        except MALFORMED:
            return "BadCertificateInvalid"
        return next((status for status, good in checks if not good), "")

    @staticmethod
    def _is_strong(certificate: x509.Certificate) -> bool:
        key, digest = certificate.public_key(), certificate.signature_hash_algorithm
        weak = digest is None or digest.name in _WEAK
        return isinstance(key, rsa.RSAPublicKey) and key.key_size in KEY_BITS and not weak

    def _is_trusted(self, certificate: x509.Certificate, now: datetime) -> bool:
        if _fingerprint(certificate) in self.pinned:
            return True
        if not self.authorities:
            return False
        any_extension = verification.ExtensionPolicy.permit_all()
        authority = any_extension.require_present(
            x509.BasicConstraints, verification.Criticality.AGNOSTIC, lambda _policy, _certificate, _extension: None
        )
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(self.authorities)))
            .time(_within(certificate, now))
            .extension_policies(ca_policy=authority, ee_policy=any_extension)
            .build_client_verifier()
        )
        try:
            verifier.verify(certificate, list(self.intermediates))
        except verification.VerificationError:
            return False
        return True

    def _is_revoked(self, certificate: x509.Certificate) -> bool:
        issuers = [each for each in (*self.authorities, *self.intermediates) if each.subject == certificate.issuer]
        return any(
            crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
            for crl in self.revocations
            if crl.issuer == certificate.issuer and any(_signed(crl, issuer) for issuer in issuers)
        )


def _within(certificate: x509.Certificate, now: datetime) -> datetime:
    """Give the moment at which the chain is looked at: an expired client is told so, not that it is unknown."""
    return min(max(now, certificate.not_valid_before_utc), certificate.not_valid_after_utc)


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    return isinstance(key, rsa.RSAPublicKey) and crl.is_signature_valid(key)


def _is_valid_at(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _may_be_a_client(certificate: x509.Certificate) -> bool:
    """Look at the usages that the certificate names; one that names none is not restricted."""
    allowed = True
    with contextlib.suppress(x509.ExtensionNotFound):
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        allowed = usage.digital_signature and usage.key_encipherment and usage.data_encipherment
    with contextlib.suppress(x509.ExtensionNotFound):
        purposes = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        wanted = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
        allowed = allowed and bool(purposes & wanted)
    return allowed


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return hashlib.sha256(certificate.public_bytes(_DER)).digest()


def _is_authority(certificate: x509.Certificate) -> bool:
    """Tell an authority from a client's self-signed certificate, which often calls itself one as well."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        return constraints.ca and not application_uris(certificate)
    except (x509.ExtensionNotFound, *MALFORMED):
        return False


def make_folders(folder: Path) -> None:
    """Make the folders that an engineer fills. Raises OSError."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)


def mark_of(folder: Path) -> Mark:
    """Give what changes when a file comes, goes or is written anew."""
    return tuple(
        (str(file), state.st_mtime_ns, state.st_size)
        for name in FOLDERS[:4]
        for file, state in ((file, _state(file)) for file in _files(folder / name))
        if state is not None
    )


def _state(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if not file.name.startswith("."))[:MAX_FILES]
    except OSError:
        return []


def load_trust(folder: Path) -> TrustList:
    """Read the folders; a file that is no certificate costs nothing but its mention."""
    unreadable: list[str] = []
    trusted = _load(folder / "trusted/certs", read_certificate, unreadable)
    issuers = _load(folder / "issuers/certs", read_certificate, unreadable)
    lists = [
        *_load(folder / "trusted/crl", _read_crl, unreadable),
        *_load(folder / "issuers/crl", _read_crl, unreadable),
    ]
    return TrustList(
        pinned=frozenset(_fingerprint(each) for each in trusted),
        authorities=tuple(each for each in trusted if _is_authority(each)),
        intermediates=tuple(each for each in issuers if _is_authority(each)),
        revocations=tuple(lists),
        unreadable=tuple(unreadable),
    )


def _read_crl(content: bytes) -> x509.CertificateRevocationList:
    return (x509.load_pem_x509_crl if b"-----BEGIN" in content else x509.load_der_x509_crl)(content)


def _load(folder: Path, read: Callable[[bytes], Kind], unreadable: list[str]) -> list[Kind]:
    found = []
    for file in _files(folder):
        try:
            with file.open("rb") as stream:
                found.append(read(stream.read(MAX_BYTES)))
        except (OSError, *MALFORMED):
            unreadable.append(str(file))
    return found


def keep_rejected(folder: Path, certificate: x509.Certificate) -> Path | None:
    """Keep a refused certificate where the engineer finds it; the oldest goes for it. None when it lies there already.

    Raises OSError. At most 32 files of at most 64 KiB ever lie there.
    """
    der = certificate.public_bytes(_DER)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    plain = re.sub(r"[^A-Za-z0-9._@-]", "_", "".join(str(each.value) for each in names))[:40].lstrip(".") or "unnamed"
    file = folder / "rejected" / f"{plain} [{hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()}].der"
    if file.exists() or len(der) > MAX_BYTES:
        return None
    kept = sorted(
        (each for each in _files(file.parent) if _OURS.fullmatch(each.name)), key=lambda each: each.stat().st_mtime_ns
    )
    for oldest in kept[: max(0, len(kept) - MAX_REJECTED + 1)]:
        oldest.unlink(missing_ok=True)
    replace_file(file, der, mode=0o644)
    return file
