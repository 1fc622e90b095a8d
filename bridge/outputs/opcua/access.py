"""Who is let in to the OPC UA server: certificates of clients, users and their rights, as the files say just now."""

from __future__ import annotations

import asyncio
import hmac
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.security_policies import SecurityPolicy
from asyncua.crypto.uacrypto import x509_from_der
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from cryptography import x509

from bridge.errors import ConfigError, StartError
from bridge.outputs.opcua.log_in import LogIns
from bridge.outputs.opcua.pki import MALFORMED, OwnCertificate, ending_text, own_certificate
from bridge.outputs.opcua.trust import Mark, TrustList, keep_rejected, load_trust, make_folders, mark_of
from bridge.outputs.opcua.users import Role, UserRecord, load_users
from bridge.outputs.opcua.values import standard_id

_log = structlog.get_logger(__name__)

_DAY = timedelta(days=1)
_KEPT_EVERY_S = 1.0
_MAX_CERTIFICATE = 16_384
_MAX_SECRET = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Where certificates and users lie, and which policies are served with them."""

    policies: tuple[str, ...]
    users_file: Path
    pki_folder: Path
    hosts: tuple[str, ...] = ()


@dataclass
class Person(User):
    """Whoever has logged in: `rights` are those of the file; an anonymous client has the ones of `plc`."""

    rights: Role = "viewer"
    record: UserRecord | None = None

    @property
    def writes(self) -> bool:
        """Whether Control may be written and every method called."""
        return self.rights in ("operator", "plc")


ANONYMOUS = Person(role=UserRole.User, name="anonymous", rights="plc")


class Access:
    """Hold certificate, trusted clients and users in memory, so that nobody waits for a disk; `refresh` reads anew."""

    def __init__(self, *, anonymous: bool, security: Security | None, line: str, host: str) -> None:
        self.anonymous = anonymous
        self.policies = security.policies if security else ()
        self.own: OwnCertificate | None = None
        self._security = security
        self._line = line
        self._host = host
        self._trust = TrustList()
        self._users: Mapping[str, UserRecord] = {}
        self._log_ins = LogIns()
        self._files = ThreadPoolExecutor(max_workers=1, thread_name_prefix="opcua-files")
        self._marks: tuple[Mark, Any] | None = None
        self._looked: datetime | None = None
        self._keeping: Future[None] | None = None
        self._kept_at = -_KEPT_EVERY_S

    @property
    def is_open(self) -> bool:
        """Whether there is anybody to let in."""
        return self.anonymous or bool(self.policies and self._users)

    @property
    def certificate_warning(self) -> str:
        """What to say of a certificate that ends soon; empty while it doesn't."""
        return ending_text(self.own, datetime.now(UTC)) if self.own else ""

    async def load(self) -> None:
        """Read everything, and make what is missing; raises StartError."""
        if self._security is None or not self._security.policies:
            return
        await asyncio.get_running_loop().run_in_executor(self._files, self._first_load, self._security)

    async def refresh(self) -> bool:
        """Read what has changed; tells whether anything has. A file that can't be read changes nothing and is logged."""
        if self._security is None or not self._security.policies:
            return False
        return await asyncio.get_running_loop().run_in_executor(self._files, self._reload, self._security)

    def close(self) -> None:
        """End the threads."""
        self._log_ins.close()
        self._files.shutdown(wait=False, cancel_futures=True)

    def admit(self, der: bytes | None, address: str) -> x509.Certificate:
        """Give a client's certificate when it is trusted and good; else keep it, and raise ServiceError."""
        try:
            if not der or len(der) > _MAX_CERTIFICATE:
                raise ServiceError(StatusCodes.BadCertificateInvalid)
            certificate: x509.Certificate = x509_from_der(der)
            fault = self._trust.fault(certificate, datetime.now(UTC))
        except (IndexError, *MALFORMED) as exc:
            raise ServiceError(StatusCodes.BadCertificateInvalid) from exc
        if fault:
            self._keep(certificate, address, fault)
            raise ServiceError(getattr(StatusCodes, fault))
        return certificate

    def still_admits(self, certificate: bytes | None, user: User | None) -> bool:
        """Tell whether a client that was let in would be let in again: by its certificate, its user and that one's hash."""
        if certificate and self._trust.fault(x509.load_der_x509_certificate(certificate), datetime.now(UTC)):
            return False
        record = user.record if isinstance(user, Person) else None
        return record is None or self._users.get(record.name) == record

    async def identify(self, token: Any, *, policy: SecurityPolicy, nonce: bytes, address: str) -> Person:
        """Give whoever an identity token speaks for; raises ServiceError."""
        if isinstance(token, ua.ExtensionObject) and token.TypeId == standard_id(ObjectIds.Null):
            token = ua.AnonymousIdentityToken()
        if isinstance(token, ua.AnonymousIdentityToken):
            if not self.anonymous:
                raise ServiceError(StatusCodes.BadIdentityTokenRejected)
            return ANONYMOUS
        if not isinstance(token, ua.UserNameIdentityToken) or not policy.AsymmetricEncryptionURI:
            raise ServiceError(StatusCodes.BadIdentityTokenRejected)
        password = _password(token, policy, nonce)
        name = str(token.UserName or "")
        user = await self._log_ins.check(self._users, name=name, password=password, address=address)
        if user is None or self._users.get(user.name) != user:
            raise ServiceError(StatusCodes.BadUserAccessDenied)
        role = UserRole.Anonymous if user.role == "viewer" else UserRole.User
        return Person(role=role, name=user.name, rights=user.role, record=user)

    def _first_load(self, security: Security) -> None:
        self._renew(security)
        try:
            make_folders(security.pki_folder)
            self._users = {user.name: user for user in load_users(security.users_file)}
        except OSError as exc:
            raise StartError(f"opcua.pki_folder = {str(security.pki_folder)!r}: {exc.strerror}") from exc
        except ConfigError as exc:
            raise StartError(str(exc)) from exc
        self._marks = self._mark(security)
        self._take_trust(security)

    def _reload(self, security: Security) -> bool:
        before = (self._trust, self._users, self.own)
        if self._looked and datetime.now(UTC) - self._looked > _DAY:
            self._attempt(self._renew, security)
        marks = self._mark(security)
        if marks != self._marks:
            self._marks = marks
            self._take_trust(security)
            self._attempt(self._take_users, security)
        return before != (self._trust, self._users, self.own)

    def _attempt(self, take: Callable[[Security], None], security: Security) -> None:
        """Take what has changed; what can't be read leaves everything as it was, and is told of once a change."""
        try:
            take(security)
        except (ConfigError, StartError) as exc:
            _log.error("opcua_change_not_taken", reason=str(exc))

    def _mark(self, security: Security) -> tuple[Mark, Any]:
        try:
            state = security.users_file.stat()
            users: Any = (state.st_mtime_ns, state.st_size, state.st_ino)
        except OSError as exc:
            users = exc.errno
        return mark_of(security.pki_folder), users

    def _renew(self, security: Security) -> None:
        now = datetime.now(UTC)
        self.own = own_certificate(security.pki_folder, hosts=security.hosts, host=self._host, line=self._line, now=now)
        self._looked = now

    def _take_users(self, security: Security) -> None:
        users = {user.name: user for user in load_users(security.users_file)}
        if users != self._users:
            _log.info("opcua_users_changed", users=sorted(users))
        self._users = users

    def _take_trust(self, security: Security) -> None:
        trust = load_trust(security.pki_folder)
        for file in set(trust.unreadable) - set(self._trust.unreadable):
            _log.warning("opcua_certificate_unreadable", file=file, allowed="DER or PEM, one in a file")
        if trust.pinned != self._trust.pinned:
            _log.info("opcua_trust_changed", certificates=len(trust.pinned))
        self._trust = trust

    def _keep(self, certificate: x509.Certificate, address: str, fault: str) -> None:
        """Let an unknown certificate be written down: one at a time, at most one a second, never on this loop."""
        now_s = asyncio.get_running_loop().time()
        busy = self._keeping is not None and not self._keeping.done()
        if self._security is None or busy or now_s - self._kept_at < _KEPT_EVERY_S:
            return
        self._kept_at = now_s
        self._keeping = self._files.submit(_write_down, self._security.pki_folder, certificate, address, fault)


def _write_down(folder: Path, certificate: x509.Certificate, address: str, fault: str) -> None:
    try:
        file = keep_rejected(folder, certificate)
    except OSError as exc:
        _log.warning("opcua_client_rejected", client=address, reason=fault, kept=f"no: {exc.strerror}")
        return
    if file is not None:
        _log.warning("opcua_client_rejected", client=address, reason=fault, kept=str(file))


def _password(token: ua.UserNameIdentityToken, policy: SecurityPolicy, nonce: bytes) -> str:
    """Decrypt a password that was encrypted as the channel's policy wants it and for this session's nonce alone."""
    if token.EncryptionAlgorithm != policy.AsymmetricEncryptionURI or len(token.Password) > _MAX_SECRET:
        raise ServiceError(StatusCodes.BadIdentityTokenInvalid)
    try:
        plain = policy.asymmetric_cryptography.decrypt(token.Password)
        (length,) = struct.unpack_from("<I", plain)
        secret = plain[4 : 4 + length]
        if (
            len(secret) != length
            or length < len(nonce)
            or not hmac.compare_digest(secret[length - len(nonce) :], nonce)
        ):
            raise ServiceError(StatusCodes.BadIdentityTokenInvalid)
        return bytes(secret[: length - len(nonce)]).decode("utf-8")
    except (ValueError, TypeError, struct.error) as exc:
        raise ServiceError(StatusCodes.BadIdentityTokenInvalid) from exc
