"""What Modbus/TCP Security asks for beside the frames: the server's certificate and whose clients it trusts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import ConfigError

_WHERE = "modbus.tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files. Without `client_ca` any client is let in that the allow-list knows."""

    cert: Path
    key: Path
    client_ca: Path | None = None


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Make the server's side of TLS 1.2 and newer. Raises ConfigError with the key and the file that can't be used."""
    for name, path in (("cert", files.cert), ("key", files.key), ("client_ca", files.client_ca)):
        if path is not None and not path.is_file():
            raise ConfigError(f"{_WHERE}.{name} = {str(path)!r}: no such file; a PEM file is needed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(context, files)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.client_ca)
        except OSError as exc:
            raise ConfigError(
                f"{_WHERE}.client_ca = {str(files.client_ca)!r}: {_reason(exc)}; "
                "a PEM file with the certificate authority of the clients is needed"
            ) from exc
    return context


def _load_certificate(context: ssl.SSLContext, files: TlsFiles) -> None:
    named = f"{_WHERE}.cert = {str(files.cert)!r} with {_WHERE}.key = {str(files.key)!r}"
    try:
        # a key with a password would be asked for on the terminal; this one is never right
        context.load_cert_chain(files.cert, files.key, password="")
    except OSError as exc:
        raise ConfigError(
            f"{named}: {_reason(exc)}; a PEM certificate and its own key without a password are needed"
        ) from exc


def _reason(exc: OSError) -> str:
    reason = exc.reason if isinstance(exc, ssl.SSLError) else exc.strerror
    return (reason or "not PEM").replace("_", " ").lower()
