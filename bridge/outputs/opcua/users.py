"""The users of the OPC UA server: a name, a role and a hashed password each, in one file of the line's own."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from bridge.errors import ConfigError

Role = Literal["viewer", "operator", "plc"]
ROLES: tuple[str, ...] = get_args(Role)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
PASSWORD_BYTES = range(8, 129)
MAX_BYTES = 1_000_000
# scrypt's cost: 32 MiB and about 0.1 s for each try.
_N, _R, _P = 2**15, 8, 1
_MAX_MEMORY = 256 * 2**20
_HEADER = """\
# The users of the OPC UA server. `linegate users` writes this file; a bridge that runs takes it up within seconds.
# Roles: viewer reads; operator and plc write Control and call methods too.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """One user as the file has it; `password` is its hash."""

    name: str
    role: Role
    password: str = field(repr=False)

    def admits(self, password: str) -> bool:
        """Tell whether it is the password; takes about 0.1 s of a core and 32 MiB."""
        scheme = _Scrypt.read(self.password)
        return scheme is not None and hmac.compare_digest(scheme.hash(password), scheme.digest)


NOBODY = UserRecord(
    name="nobody", role="viewer", password=f"scrypt${_N}${_R}${_P}$AAAAAAAAAAAAAAAAAAAAAA==${'A' * 43}="
)
"""Stands in for a user that doesn't exist, so that the answer takes as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scrypt:
    """One hash, written `scrypt$N$R$P$SALT$DIGEST` with salt and digest in base64."""

    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def read(cls, text: str) -> _Scrypt | None:
        """Read a hash; None for what is none, or would cost more than 256 MiB or eight times our own."""
        try:
            kind, n, r, p, salt, digest = text.split("$")
            found = cls(n=int(n), r=int(r), p=int(p), salt=_decoded(salt), digest=_decoded(digest))
        except (ValueError, binascii.Error):
            return None
        power_of_two = found.n > 1 and not found.n & (found.n - 1)
        bounded = 1 <= found.r <= 32 and 1 <= found.p <= 8 and found.n * found.r * found.p <= 8 * _N * _R * _P
        return found if kind == "scrypt" and power_of_two and bounded and len(found.digest) >= 32 else None

    def hash(self, password: str) -> bytes:
        return hashlib.scrypt(
            password.encode("utf-8", "surrogatepass"),
            salt=self.salt,
            n=self.n,
            r=self.r,
            p=self.p,
            maxmem=_MAX_MEMORY,
            dklen=len(self.digest),
        )


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def hashed(password: str) -> str:
    """Hash a password with a salt of its own; raises ConfigError for one too short or too long."""
    size = len(password.encode("utf-8", "surrogatepass"))
    if size not in PASSWORD_BYTES:
        raise ConfigError(
            f"the password has {size} bytes: allowed are {PASSWORD_BYTES.start} to {PASSWORD_BYTES.stop - 1}"
        )
    salt = secrets.token_bytes(16)
    digest = _Scrypt(n=_N, r=_R, p=_P, salt=salt, digest=bytes(32)).hash(password)
    return "$".join(
        ["scrypt", str(_N), str(_R), str(_P), *(base64.b64encode(each).decode() for each in (salt, digest))]
    )


def load_users(path: Path) -> tuple[UserRecord, ...]:
    """Read the users in the file's order; none where there is no file. Raises ConfigError naming file and mistake."""
    try:
        text = path.read_bytes()[: MAX_BYTES + 1]
        document = tomllib.loads(text.decode("utf-8"))
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise ConfigError(f"opcua.users_file = {str(path)!r}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: not valid TOML: {exc}") from exc
    entries = document.get("users", [])
    if set(document) - {"users"} or not isinstance(entries, list) or len(text) > MAX_BYTES:
        raise ConfigError(f"{path}: allowed are [[users]] tables alone, at most {MAX_BYTES} bytes of them")
    users = tuple(_user(path, entry) for entry in entries)
    names = [user.name for user in users]
    if len(set(names)) != len(names):
        raise ConfigError(f"{path}: the names {names} are not all different")
    return users


def _user(path: Path, entry: Any) -> UserRecord:
    if not isinstance(entry, dict) or set(entry) != {"name", "role", "password"}:
        raise ConfigError(f"{path}: each [[users]] has the keys name, role and password and no other")
    name, role, password = str(entry["name"]), str(entry["role"]), str(entry["password"])
    check_name(name)
    if role not in ROLES:
        raise ConfigError(f"{path}: user {name!r}: role = {role!r}: allowed is one of {', '.join(ROLES)}")
    if _Scrypt.read(password) is None:
        raise ConfigError(f"{path}: user {name!r}: password is no hash of ours: `linegate users add {name}` makes one")
    return UserRecord(name=name, role=role, password=password)  # type: ignore[arg-type]


def check_name(name: str) -> None:
    """Raise ConfigError for a name that no user can have."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"user {name!r}: allowed are 1 to 64 letters, digits, '.', '_', '@', '-'")


def save_users(path: Path, users: Iterable[UserRecord]) -> None:
    """Write the file anew, whole or not at all, for its owner alone (0600). Raises ConfigError."""
    tables = [
        f"\n[[users]]\nname = {json.dumps(user.name)}\nrole = {json.dumps(user.role)}\npassword = {json.dumps(user.password)}\n"
        for user in users
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (_HEADER + "".join(tables)).encode())
    except OSError as exc:
        raise ConfigError(f"opcua.users_file = {str(path)!r}: can't be written: {exc.strerror}") from exc


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put a file in the place of another in one step, on the disk before it counts. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # the first failure is the one to tell of
            Path(temporary).unlink()
        raise
