"""Who may bring a model: shipped bundles by hash, others by an Ed25519 signature over `bundle.toml`.

`bundle.sig` is the 64-byte signature over the very bytes of `bundle.toml`, in base64 on one line. A public key is a file
`*.pub` in a folder of keys, PEM (`-----BEGIN PUBLIC KEY-----`) or its 32 bytes in base64. The same user's own
`signing.key` (PEM, PKCS 8, mode 0600, in `$XDG_CONFIG_HOME/linegate` or `~/.config/linegate`) is trusted as well.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.resources
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from bridge.errors import BundleError

_KEY_BYTES_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What is trusted: `shipped` maps `name-version` to the SHA-256 of its manifest, `keys` names public keys."""

    shipped: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    require_signature: bool = True

    def check(self, manifest: bytes, signature: bytes | None, *, name: str, where: str) -> str:
        """Give who vouches for `manifest` ("shipped", "key NAME", "unsigned"); raises BundleError where nobody does.

        `name` is `name-version`. A shipped bundle is known by its hash, wherever it lies.
        """
        if hashlib.sha256(manifest).hexdigest() in self.shipped.values():
            return "shipped"
        if signature is not None:
            for key_name, key in self.keys.items():
                if _verifies(key, signature, manifest):
                    return f"key {key_name}"
        if not self.require_signature:
            return "unsigned"
        if name in self.shipped:
            raise BundleError(f"{where}: bundle.toml is not that of the shipped {name}: it has been changed")
        if signature is None:
            raise BundleError(f"{where}: unsigned: it has no bundle.sig, and models.require_signature = true")
        known = ", ".join(self.keys) or "none"
        raise BundleError(f"{where}: bundle.sig is by no trusted key or bundle.toml has been changed (keys: {known})")


def load_trust(*, keys: Path | None, require_signature: bool) -> Trust:
    """Read the shipped hashes, the public keys in folder `keys` (absent = none) and the user's own signing key.

    Raises BundleError naming the key file that can't be read.
    """
    public = _public_keys(keys) if keys is not None and keys.is_dir() else {}
    own = user_signing_key()
    # a home that this account may not enter (a hardened service) holds no key for it
    if own is not None and os.access(own, os.R_OK):
        public["signing.key"] = load_private_key(own).public_key()
    return Trust(shipped=shipped_hashes(), keys=public, require_signature=require_signature)


def shipped_folder() -> Path:
    """Give the folder of the bundles that come with the package."""
    return Path(str(importlib.resources.files("models"))) / "bundles"


def shipped_hashes() -> dict[str, str]:
    """Read `TRUSTED.toml`: `name-version` to the SHA-256 of its `bundle.toml`; raises BundleError."""
    path = shipped_folder() / "TRUSTED.toml"
    try:
        bundles = tomllib.loads(path.read_text(encoding="utf-8")).get("bundles", {})
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BundleError(f"{path}: can't be read: {exc}") from exc
    return {str(name): str(value) for name, value in bundles.items()}


def user_signing_key() -> Path | None:
    """Give where this user's private key lies, made at the first use by the commands that make bundles.

    None where the account has neither `XDG_CONFIG_HOME` nor `HOME`.
    """
    config, home = os.environ.get("XDG_CONFIG_HOME", ""), os.environ.get("HOME", "")
    if not config and not home:
        return None
    return (Path(config) if config else Path(home) / ".config") / "linegate" / "signing.key"


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a signing key (PEM, PKCS 8, unencrypted); raises BundleError."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise BundleError(f"{path}: no usable signing key: {exc}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path}: the key is no Ed25519 key")
    return key


def sign_manifest(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """Give the content of `bundle.sig` for the bytes of a `bundle.toml`."""
    return base64.b64encode(key.sign(manifest)) + b"\n"


def _verifies(key: Ed25519PublicKey, signature: bytes, manifest: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature.strip(), validate=True), manifest)
    except (binascii.Error, InvalidSignature):
        return False
    return True


def _public_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    keys: dict[str, Ed25519PublicKey] = {}
    for path in sorted(folder.glob("*.pub")):
        try:
            with path.open("rb") as file:
                keys[path.stem] = _public_key(file.read(_KEY_BYTES_MAX))
        except (OSError, ValueError, UnsupportedAlgorithm) as exc:
            raise BundleError(f"{path}: no usable public key: {exc}; allowed is Ed25519, PEM or base64") from exc
    return keys


def _public_key(data: bytes) -> Ed25519PublicKey:
    """Read one public key; raises ValueError."""
    if b"-----BEGIN" not in data:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(data.strip(), validate=True))
    key = load_pem_public_key(data)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the key is of another kind")  # noqa: TRY004 - the caller names the file for every ValueError
    return key
