"""Make signing keys and sign bundles; `trust` says who may bring a model."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bridge.errors import BundleError
from bridge.inference.trust import load_private_key, user_signing_key


def make_key(path: Path) -> Path:
    """Write a new private key (PEM, PKCS 8, mode 0600) and its public one beside it (`.pub`); gives the latter's path.

    Raises BundleError where a key lies there already: it would be lost, and every bundle that it signed with it.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = path.with_suffix(".pub")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private)
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    except FileExistsError as exc:
        raise BundleError(f"{path}: a key lies there already; nothing was changed") from exc
    except OSError as exc:
        raise BundleError(f"{path}: the key can't be written: {exc.strerror or exc}") from exc
    return public


def own_key() -> Ed25519PrivateKey:
    """Give this user's signing key, made at its first use; raises BundleError."""
    path = user_signing_key()
    if path is None:
        raise BundleError("no place for a signing key: neither XDG_CONFIG_HOME nor HOME is set")
    if not path.exists():
        make_key(path)
    return load_private_key(path)
