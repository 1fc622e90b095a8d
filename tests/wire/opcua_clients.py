"""A secured OPC UA server on a free port, and clients with certificates of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.crypto import security_policies
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.domain.messages import Inbound
from bridge.outputs.opcua.access import Security
from bridge.outputs.opcua.server import OpcUaServer
from bridge.outputs.opcua.users import UserRecord, hashed, save_users
from bridge.outputs.plc.panel import PlcPanel
from tests.outputs.samples import MS, READY

POLICIES = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
STATION = "ns=2;s=line1.station1."
PASSWORD = "a good password"
LOOK_S = 0.1
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
"""One key for every client of a test run: making one takes long."""


@dataclass(kw_only=True)
class Pair:
    """A client's certificate and key, as files."""

    folder: Path
    certificate: x509.Certificate
    uri: str

    @property
    def files(self) -> tuple[Path, Path]:
        return self.folder / "cert.der", self.folder / "key.pem"

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def make_pair(
    folder: Path,
    *,
    name: str = "test client",
    key: rsa.RSAPrivateKey = KEY,
    issuer: tuple[x509.Certificate, rsa.RSAPrivateKey] | None = None,
    begins: datetime | None = None,
    ends: datetime | None = None,
    uses: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    signs: bool = True,
    authority: bool = False,
    uri: str | None = None,
    algorithm: Any = None,
) -> Pair:
    """Make a certificate, by default a good one for a client, signed by itself."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    uri = uri or f"urn:test:{name.replace(' ', '-')}"
    builder = x509.CertificateBuilder(
        issuer_name=issuer[0].subject if issuer else subject,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=begins or now - timedelta(days=1),
        not_valid_after=ends or now + timedelta(days=30),
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True).add_extension(
        x509.KeyUsage(
            digital_signature=signs, content_commitment=True, key_encipherment=True, data_encipherment=True, key_agreement=False,
            key_cert_sign=authority or issuer is None, crl_sign=authority, encipher_only=False, decipher_only=False,
        ),
        critical=True,
    )  # fmt: skip
    if not authority:
        alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")])
        builder = builder.add_extension(alternative, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    certificate = builder.sign(issuer[1] if issuer else key, algorithm or hashes.SHA256())
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder=folder, certificate=certificate, uri=uri)
    pair.files[0].write_bytes(pair.der)
    pair.files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pair


@dataclass(kw_only=True)
class SecuredBench:
    """A server with one station, its files, and one client that is trusted."""

    folder: Path
    client: Pair
    server: OpcUaServer
    panel: PlcPanel
    posted: list[Inbound] = field(default_factory=list)

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.server.port}/linegate/"

    async def look(self) -> None:
        """Let the server look at its files now."""
        await self.server._guard.look()

    def trust(self, pair: Pair) -> Path:
        """Put a certificate where trusted ones lie."""
        file = self.pki / "trusted/certs" / f"{pair.certificate.serial_number}.der"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pair.der)
        return file

    @asynccontextmanager
    async def connected(
        self,
        user: str | None = None,
        password: str = PASSWORD,
        *,
        policy: str | None = "Basic256Sha256",
        mode: ua.MessageSecurityMode = ua.MessageSecurityMode.SignAndEncrypt,
        pair: Pair | None = None,
        timeout: float = 4.0,
    ) -> AsyncIterator[Client]:
        """Connect and log in as a client of the library's."""
        pair = pair or self.client
        client = Client(self.url, timeout=timeout)
        client.application_uri = pair.uri
        if user is not None:
            client.set_user(user)
            client.set_password(password)
        if policy is not None:
            await client.set_security(POLICIES[policy], *pair.files, mode=mode)
        await client.connect()
        try:
            yield client
        finally:
            await client.disconnect()


@asynccontextmanager
async def secured(
    folder: Path,
    *,
    users: Sequence[tuple[str, str]] = (("plc1", "plc"), ("eyes", "viewer"), ("hands", "operator")),
    policies: Sequence[str] = tuple(POLICIES),
    anonymous: bool = False,
    hosts: Sequence[str] = (),
) -> AsyncIterator[SecuredBench]:
    """Run a server with these users, all with the one password, until the end of the block."""
    posted: list[Inbound] = []
    panel = PlcPanel(station="station1", post=posted.append)
    if users:
        record = hashed(PASSWORD)
        save_users(folder / "users.toml", [_user(name, role, record) for name, role in users])
    security = Security(
        policies=tuple(policies), users_file=folder / "users.toml", pki_folder=folder / "pki", hosts=tuple(hosts)
    )
    server = OpcUaServer(
        [panel],
        line="line1",
        endpoint="opc.tcp://127.0.0.1:0/linegate/",
        clock_ns=lambda: 5_010 * MS,
        anonymous=anonymous,
        security=security,
        look_s=LOOK_S,
    )
    client = make_pair(folder / "client")
    bench = SecuredBench(folder=folder, client=client, server=server, panel=panel, posted=posted)
    bench.trust(client)
    await server.start()
    panel.show(READY, now_ns=5_010 * MS)
    try:
        yield bench
    finally:
        await server.stop()


def _user(name: str, role: Any, record: str) -> UserRecord:
    return UserRecord(name=name, role=role, password=record)


async def until(true: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Wait until something holds; fails the test after `limit_s`."""
    async with asyncio.timeout(limit_s):
        while not true():
            await asyncio.sleep(0.02)
