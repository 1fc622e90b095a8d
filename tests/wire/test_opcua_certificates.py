"""Certificates of the secured OPC UA server: its own from first start to renewal, and which of clients are refused."""

from __future__ import annotations

import socket
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from bridge.domain.messages import AlarmState
from bridge.errors import StartError
from bridge.outputs.opcua.pki import own_certificate
from bridge.outputs.opcua.trust import MAX_REJECTED, keep_rejected, load_trust, make_folders
from bridge.outputs.opcua.users import UserRecord, hashed, save_users
from tests.wire.opcua_clients import KEY, PASSWORD, STATION, SecuredBench, make_pair, secured, until

HOSTS = ("cell7", "192.168.0.10")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def own(folder: Path, now: datetime = NOW, hosts: tuple[str, ...] = HOSTS) -> x509.Certificate:
    return own_certificate(folder, hosts=hosts, host="10.0.0.1", line="line1", now=now).certificate


async def refused(bench: SecuredBench, status: int, **how: Any) -> None:
    with pytest.raises(ua.UaStatusCodeError) as told:
        async with bench.connected("plc1", **how):
            pass
    assert told.value.code == status, told.value


# ---- the server's own ------------------------------------------------------------------------------------------------


async def test_a_certificate_is_made_at_the_first_start_and_stays(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        async with secured(tmp_path, hosts=HOSTS) as bench:
            endpoint, *_ = await Client(bench.url).connect_and_get_server_endpoints()
            seen.append(endpoint.ServerCertificate)
            uri = endpoint.Server.ApplicationUri
    assert seen[0] == seen[1] == (tmp_path / "pki/own/cert.der").read_bytes()
    assert stat.S_IMODE((tmp_path / "pki/own/key.pem").stat().st_mode) == 0o600
    certificate = x509.load_der_x509_certificate(seen[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [uri]
    assert names.get_values_for_type(x509.DNSName) == ["cell7"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("192.168.0.10")]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.content_commitment, usage.key_encipherment, usage.data_encipherment) == (
        True,
    ) * 4
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH in purposes
    assert isinstance(certificate.public_key(), rsa.RSAPublicKey)


def test_it_is_renewed_with_the_same_key_30_days_before_it_ends(tmp_path: Path) -> None:
    first = own(tmp_path)
    until_renewal = first.not_valid_after_utc - timedelta(days=30)
    assert own(tmp_path, until_renewal - timedelta(hours=1)) == first
    second = own(tmp_path, until_renewal + timedelta(hours=1))
    assert second.not_valid_after_utc > first.not_valid_after_utc + timedelta(days=365)
    assert second.public_key() == first.public_key()
    assert own(tmp_path, until_renewal + timedelta(hours=2)) == second


def test_it_is_made_anew_when_the_hosts_change(tmp_path: Path) -> None:
    first = own(tmp_path)
    names = own(tmp_path, hosts=("cell8",)).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["cell8"]
    uris = [
        each.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.UniformResourceIdentifier
        )
        for each in (first, own(tmp_path, hosts=("cell8",)))
    ]
    assert uris[0] == uris[1]


def test_without_hosts_it_names_the_machine_and_stays_when_that_is_called_otherwise(tmp_path: Path) -> None:
    first = own(tmp_path, hosts=())
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [socket.gethostname(), "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1"), ip_address("10.0.0.1")]
    elsewhere = own_certificate(tmp_path, hosts=(), host="10.0.0.2", line="line1", now=NOW)
    assert elsewhere.certificate == first


def test_a_start_that_was_cut_off_between_key_and_certificate_goes_on(tmp_path: Path) -> None:
    key = own(tmp_path).public_key()
    (tmp_path / "own/cert.der").unlink()
    assert own(tmp_path).public_key() == key


async def test_the_users_own_is_shown_and_never_touched(tmp_path: Path) -> None:
    theirs = make_pair(
        tmp_path / "pki/own",
        name="theirs",
        uses=[ExtendedKeyUsageOID.SERVER_AUTH],
        ends=datetime.now(UTC) + timedelta(days=5),
    )
    theirs.files[1].chmod(0o600)
    async with secured(tmp_path) as bench:
        endpoint, *_ = await Client(bench.url).connect_and_get_server_endpoints()
        assert (endpoint.ServerCertificate, endpoint.Server.ApplicationUri) == (theirs.der, theirs.uri)
        async with bench.connected("plc1") as client:
            assert await client.get_node(STATION + "Status.Ready").read_value()
        (alarm,) = [each for each in bench.posted if isinstance(each, AlarmState)]
        assert (alarm.name, alarm.standing) == ("OPCUA_CERTIFICATE", True)
        assert "put a new one into own/" in alarm.text


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        (b"no certificate", None, "cert.der: not a certificate"),
        (None, b"no key", "key.pem: not a private key"),
        (None, b"", "key.pem: not a private key"),
        ("another", None, "key.pem is not the key of"),
        ("authority", None, "no application URI"),
    ],
)
async def test_own_files_that_do_not_fit_are_named(
    tmp_path: Path, certificate: bytes | str | None, key: bytes | None, told: str
) -> None:
    folder = tmp_path / "pki/own"
    own(tmp_path / "pki")
    if isinstance(certificate, bytes):
        (folder / "cert.der").write_bytes(certificate)
    if certificate == "another":
        (folder / "cert.der").write_bytes(make_pair(tmp_path / "another").der)
    if certificate == "authority":
        make_pair(folder, authority=True)
    if key is not None:
        (folder / "key.pem").write_bytes(key)
    with pytest.raises(StartError, match=told):
        async with secured(tmp_path):
            pass


def test_a_certificate_without_its_key_is_named(tmp_path: Path) -> None:
    own(tmp_path)
    (tmp_path / "own/key.pem").unlink()
    with pytest.raises(StartError, match=r"key\.pem is missing"):
        own(tmp_path)


# ---- the clients' ----------------------------------------------------------------------------------------------------


async def test_trusted_certificates_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    faults: dict[str, tuple[int, dict[str, Any]]] = {
        "ended": (ua.StatusCodes.BadCertificateTimeInvalid, {"ends": now - timedelta(hours=1)}),
        "not begun": (ua.StatusCodes.BadCertificateTimeInvalid, {"begins": now + timedelta(hours=1)}),
        "server's": (ua.StatusCodes.BadCertificateUseNotAllowed, {"uses": [ExtendedKeyUsageOID.SERVER_AUTH]}),
        "signs not": (ua.StatusCodes.BadCertificateUseNotAllowed, {"signs": False}),
        "short key": (
            ua.StatusCodes.BadCertificateInvalid,
            {"key": rsa.generate_private_key(public_exponent=65537, key_size=1024)},
        ),
    }
    async with secured(tmp_path) as bench:
        pairs = {name: make_pair(tmp_path / name, name=name, **how) for name, (_, how) in faults.items()}
        for pair in pairs.values():
            bench.trust(pair)
        await bench.look()
        for name, (status, _) in faults.items():
            await refused(bench, status, pair=pairs[name])
        pairs["client"] = bench.client
        pairs["client"].uri = "urn:somebody:else"
        await refused(bench, ua.StatusCodes.BadCertificateUriInvalid)


async def test_clients_of_a_trusted_authority_come_in_until_they_are_revoked(tmp_path: Path) -> None:
    root_key, ca_key = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    root = make_pair(tmp_path / "root", name="root", key=root_key, authority=True)
    ca = make_pair(tmp_path / "ca", name="ca", key=ca_key, authority=True, issuer=(root.certificate, root_key))
    good = make_pair(tmp_path / "good", name="good", issuer=(ca.certificate, ca_key))
    ended = make_pair(
        tmp_path / "ended", name="ended", issuer=(ca.certificate, ca_key), ends=datetime.now(UTC) - timedelta(hours=1)
    )
    forged = make_pair(tmp_path / "forged", name="forged", issuer=(ca.certificate, KEY))
    by_client = make_pair(tmp_path / "by-client", name="by client", issuer=(make_pair(tmp_path / "x").certificate, KEY))
    async with secured(tmp_path) as bench:
        await refused(bench, ua.StatusCodes.BadCertificateUntrusted, pair=good)
        (bench.pki / "issuers/certs/ca.der").write_bytes(ca.der)
        (bench.pki / "trusted/certs/broken.der").write_bytes(b"broken")
        (bench.pki / "trusted/certs/root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
        await bench.look()
        async with bench.connected("plc1", pair=good):
            pass
        await refused(bench, ua.StatusCodes.BadCertificateUntrusted, pair=forged)
        await refused(bench, ua.StatusCodes.BadCertificateUntrusted, pair=by_client)
        await refused(bench, ua.StatusCodes.BadCertificateTimeInvalid, pair=ended)
        (bench.pki / "issuers/crl/foreign.crl").write_bytes(revocations(good.certificate, "ca", KEY))
        await bench.look()
        async with bench.connected("plc1", pair=good):
            pass
        (bench.pki / "issuers/crl/ca.crl").write_bytes(revocations(good.certificate, "ca", ca_key))
        await bench.look()
        await refused(bench, ua.StatusCodes.BadCertificateRevoked, pair=good)


def revocations(certificate: x509.Certificate, issuer: str, key: rsa.RSAPrivateKey) -> bytes:
    now = datetime.now(UTC)
    entry = x509.RevokedCertificateBuilder(certificate.serial_number, now).build()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)])
    built = x509.CertificateRevocationListBuilder(name, now, now + timedelta(days=1), revoked_certificates=[entry])
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_rejected_certificates_are_few_and_the_oldest_goes(tmp_path: Path) -> None:
    make_folders(tmp_path)
    (tmp_path / "rejected/notes.txt").write_text("the engineer's own")
    kept = []
    for number in range(MAX_REJECTED + 5):
        pair = make_pair(tmp_path / "x", name=f"client {number}" + "x" * 40)
        kept.append(keep_rejected(tmp_path, pair.certificate))
        assert keep_rejected(tmp_path, pair.certificate) is None
    left = {file.name for file in (tmp_path / "rejected").iterdir()}
    assert left == {"notes.txt", *(file.name for file in kept[5:] if file)}
    assert len(left) == MAX_REJECTED + 1


def test_a_clients_certificate_that_calls_itself_an_authority_is_none(tmp_path: Path) -> None:
    make_folders(tmp_path)
    root = make_pair(tmp_path / "root", name="root", authority=True)
    (tmp_path / "trusted/certs/root.der").write_bytes(root.der)
    client = make_pair(tmp_path / "client")
    (tmp_path / "trusted/certs/client.der").write_bytes(client.der)
    (tmp_path / "trusted/certs/large.der").write_bytes(bytes(200_000))
    trust = load_trust(tmp_path)
    assert trust.authorities == (root.certificate,)
    assert [Path(file).name for file in trust.unreadable] == ["large.der"]
    assert trust.fault(client.certificate, datetime.now(UTC)) == ""


# ---- users come and go -----------------------------------------------------------------------------------------------


async def test_the_port_opens_for_the_first_user_and_a_removed_one_is_ended(tmp_path: Path) -> None:
    async with secured(tmp_path, users=()) as bench:
        assert bench.server.port is None
        assert bench.posted == [
            AlarmState(name="OPCUA_CLOSED", standing=True, text="no user is configured and anonymous is false")
        ]
        first = UserRecord(name="plc1", role="plc", password=hashed(PASSWORD))
        save_users(tmp_path / "users.toml", [first])
        await until(lambda: bench.server.port is not None)
        await until(lambda: bench.posted[-1] == AlarmState(name="OPCUA_CLOSED", standing=False))
        (tmp_path / "users.toml").write_text("[[users")
        await bench.look()
        async with bench.connected("plc1") as client:
            assert await client.get_node(STATION + "Status.Ready").read_value()
            save_users(tmp_path / "users.toml", [UserRecord(name="plc2", role="plc", password=first.password)])
            await until(lambda: not bench.server._server.bserver.clients)  # type: ignore[union-attr]
        await refused(bench, ua.StatusCodes.BadUserAccessDenied)
        async with bench.connected("plc2"):
            pass
