"""Write what the profile `production` of docker-compose.yml keeps secret: passwords, keys and certificates.

    .venv/bin/python docker/make_secrets.py --host line1.plant.example --host 192.168.0.5

It needs the package `cryptography` alone, which the bridge has; without it here, run it in the bridge's image
(docs/compose.md). A file that is there stays as it is, so it can be run again: after an update, or to renew what you
have removed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import secrets
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FOLDER = Path(__file__).parent / "secrets"
BROKER_USERS = ("bridge", "flows", "plc", "historian", "viewer", "health")
PASSWORDS = (
    *(f"mqtt_{user}_password" for user in BROKER_USERS),
    "opcua_flows_password",
    "opcua_plc_password",
    "flows_editor_password",
    "flows_credential_secret",
    "postgres_password",
    "postgres_linegate_password",
    "postgres_reader_password",
    "grafana_admin_password",
)
OPCUA_ROLES = {"flows": "operator", "plc": "plc"}
LOOPBACK = ("localhost", "127.0.0.1")
# Whose certificate, the names by which the others reach it, and what it is shown for.
CERTIFICATES = {
    "broker": ("mosquitto-tls", "mosquitto"),
    "bridge": ("bridge-production", "bridge"),
    "flows": ("node-red-production", "node-red"),
    "plc": (),
}
AUTHORITY_DAYS, CERTIFICATE_DAYS = 3650, 825
# mosquitto hashes at every connection, in its only thread. Rounds slow down who guesses, and 192 random bits can't be.
ROUNDS, SALT_BYTES = 1000, 12


def write(path: Path, content: bytes) -> None:
    """Write a file for the containers' users, each another one: what keeps the host's users out is the folder's mode."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)


def mosquitto_line(user: str, password: str) -> str:
    """Hash a password as mosquitto_passwd does: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS)
    return f"{user}:$7${ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a key out, without a password: a service starts with nobody there to type one."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    days: int,
    extensions: list[x509.ExtensionType],
    by: tuple[x509.Name, ec.EllipticCurvePrivateKey],
) -> x509.Certificate:
    """Sign a certificate with the authority's name and key; critical are the authority's own extensions."""
    issuer, issuer_key = by
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(
            extension, critical=isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
        )
    return builder.sign(issuer_key, hashes.SHA256())


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """Say what a key is for: signing certificates, or shaking hands."""
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def authority(folder: Path) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    """Give the name and key of the line's own authority; makes it where there is none."""
    certificate, key_file = folder / "ca_cert", folder / "ca_key"
    if not certificate.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"Linegate line authority {secrets.token_hex(4)}"
        by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        extensions = [x509.BasicConstraints(ca=True, path_length=0), key_usage(authority=True)]
        key_file.unlink(missing_ok=True)
        key_file.touch(mode=0o400)
        key_file.chmod(0o600)
        key_file.write_bytes(pem(key))
        key_file.chmod(0o400)
        write(certificate, signed(name, key, AUTHORITY_DAYS, extensions, by).public_bytes(serialization.Encoding.PEM))
    if not key_file.exists():
        raise SystemExit(f"{key_file} is not there: put it back to sign with, or remove ca_cert and all *_cert too")
    found = serialization.load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(certificate.read_bytes()).subject, found


def make_certificates(folder: Path, hosts: list[str]) -> list[str]:
    """Make the certificates that are missing; gives their files' names."""
    missing = [name for name in CERTIFICATES if not (folder / f"{name}_cert").exists()]
    if not missing:
        return []
    by = authority(folder)
    for name in missing:
        key = ec.generate_private_key(ec.SECP256R1())
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        extensions: list[x509.ExtensionType] = [x509.BasicConstraints(ca=False, path_length=None), uses]
        extensions.append(key_usage(authority=False))
        if CERTIFICATES[name]:
            names = [general_name(host) for host in (*CERTIFICATES[name], *LOOPBACK, *hosts)]
            extensions.append(x509.SubjectAlternativeName(names))
        write(folder / f"{name}_key", pem(key))
        made = signed(f"linegate {name}", key, CERTIFICATE_DAYS, extensions, by)
        write(folder / f"{name}_cert", made.public_bytes(serialization.Encoding.PEM))
    return [f"{name}_cert" for name in missing]


def general_name(host: str) -> x509.GeneralName:
    """Put a host into the kind of name that a certificate has for it."""
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def opcua_hash(password: str) -> str:
    """Hash a password as `linegate users add` does: scrypt, with 32 MiB and about 0.1 s for each try."""
    salt, (n, r, p) = secrets.token_bytes(16), (2**15, 8, 1)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2**26, dklen=32)
    return f"scrypt${n}${r}${p}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def opcua_users(path: Path, words: dict[str, str]) -> str:
    """Give the OPC UA server's users: ours with these passwords, and those that somebody has added."""
    users = [
        {"name": name, "role": role, "password": opcua_hash(words[f"opcua_{name}_password"])}
        for name, role in OPCUA_ROLES.items()
    ]
    if path.exists():
        users += [user for user in tomllib.loads(path.read_text())["users"] if user["name"] not in OPCUA_ROLES]
    keys = ("name", "role", "password")
    return "\n".join("[[users]]\n" + "".join(f"{key} = {json.dumps(user[key])}\n" for key in keys) for user in users)


def make_secrets(folder: Path, hosts: list[str]) -> list[str]:
    """Write every secret that is missing, and what follows from those; gives the names of the files written."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    made = make_certificates(folder, hosts)
    fresh = [name for name in PASSWORDS if not (folder / name).exists()]
    for name in fresh:
        write(folder / name, secrets.token_hex(24).encode())
    words = {name: (folder / name).read_text().strip() for name in PASSWORDS}
    follows = {
        "mosquitto_passwords": "".join(mosquitto_line(user, words[f"mqtt_{user}_password"]) for user in BROKER_USERS),
        "mosquitto_sub": f"-u health\n-P {words['mqtt_health_password']}\n",
        "opcua_users": opcua_users(folder / "opcua_users", words),
        "influx_token": "",  # yours, where the flows write to an InfluxDB
    }
    sources = {"mosquitto_passwords": "mqtt_", "mosquitto_sub": "mqtt_health_", "opcua_users": "opcua_"}
    for name, text in follows.items():
        stale = name in sources and any(each.startswith(sources[name]) for each in fresh)
        if stale or not (folder / name).exists():
            write(folder / name, text.encode())
            made.append(name)
    return made + fresh


def main() -> None:
    """Read the command line, write the files and say what was written."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--host", action="append", default=[], help="a name or address of this machine, for certificates"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write [docker/secrets]")
    given = parser.parse_args()
    made = make_secrets(given.folder, given.host)
    told = f": {', '.join(sorted(made))}" if made else ", all were there"
    sys.stdout.write(f"{given.folder}: {len(made)} files written{told}\n")


if __name__ == "__main__":
    main()
