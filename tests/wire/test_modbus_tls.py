"""Modbus/TCP Security: certificates, who is let in, and clients that never shake hands."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from pymodbus.client import AsyncModbusTcpClient, AsyncModbusTlsClient

from bridge.errors import ConfigError
from bridge.outputs.modbus.server import TlsPort
from bridge.outputs.modbus.tls import TlsFiles, server_context
from tests.outputs.samples import READY, outcome
from tests.wire.certificates import Authority
from tests.wire.modbus_bench import Bench, RawClient, frame, read

PATIENCE_S = 0.5


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of the plant, with a certificate for the bridge and one for its PLC."""
    authority = Authority(tmp_path_factory.mktemp("site"), "plant")
    authority.issue("bridge", address="127.0.0.1")
    authority.issue("plc")
    return authority


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("stranger"), "elsewhere")
    authority.issue("plc")
    return authority


def served(site: Authority, *, mutual: bool = True) -> ssl.SSLContext:
    return server_context(
        TlsFiles(cert=site.cert("bridge"), key=site.key("bridge"), client_ca=site.ca if mutual else None)
    )


def client_context(site: Authority, own: Authority | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=site.ca)
    if own is not None:
        context.load_cert_chain(own.cert("plc"), own.key("plc"))
    return context


async def start(site: Authority, *, mutual: bool = True, **settings: object) -> Bench:
    bench = await Bench().start(
        tls=TlsPort(port=0, context=served(site, mutual=mutual)), **{"patience_s": PATIENCE_S, **settings}
    )
    bench.panels[0].show(READY, now_ns=bench.now_ns)
    bench.panels[0].publish(outcome())
    return bench


@pytest_asyncio.fixture
async def bench(site: Authority) -> AsyncIterator[Bench]:
    running = await start(site)
    yield running
    await running.stop()


async def secured(bench: Bench, context: ssl.SSLContext) -> RawClient:
    return RawClient(*await asyncio.open_connection("127.0.0.1", bench.tls_port, ssl=context))


async def is_refused(bench: Bench, context: ssl.SSLContext) -> bool:
    """Whether a request gets no answer: with TLS 1.3 the client learns of its refusal only when it reads."""
    try:
        client = await secured(bench, context)
        client.writer.write(frame(read(4, 0, 1)))
        return await asyncio.wait_for(client.reader.read(), 5) == b""
    except (ssl.SSLError, ConnectionError):
        return True


async def test_pymodbus_reads_and_writes_beside_the_plain_port(bench: Bench, site: Authority) -> None:
    client = AsyncModbusTlsClient("127.0.0.1", port=bench.tls_port, sslctx=client_context(site, site))
    assert await client.connect()
    assert (await client.read_input_registers(2, count=4, device_id=1)).registers == [1, 57_920, 2, 2]
    assert not (await client.write_register(10, 5, device_id=1)).isError()
    assert (await client.read_holding_registers(1_000, count=1, device_id=9)).exception_code == 0x0B
    plain = AsyncModbusTcpClient("127.0.0.1", port=bench.port)
    assert await plain.connect()
    assert (await plain.read_holding_registers(10, count=1, device_id=1)).registers == [5]
    client.close()
    plain.close()


async def test_tls_instead_of_the_plain_port(site: Authority) -> None:
    bench = await start(site, port=None)
    assert (bench.port, bench.tls_port > 0) == (0, True)
    client = await secured(bench, client_context(site, site))
    assert await client.registers(4, 4, 2) == [2, 2]
    client.close()
    await bench.stop()


async def test_many_requests_of_one_record_are_answered_in_order(bench: Bench, site: Authority) -> None:
    client = await secured(bench, client_context(site, site))
    client.writer.write(b"".join(frame(read(4, at, 125), transaction=at) for at in range(100)))
    assert [(await client.answer())[0] for _ in range(100)] == list(range(100))
    client.writer.write(frame(read(4, 0, 1), transaction=7) + b"GET / HTTP/1.1\r\n\r\n")
    assert (await client.answer())[0] == 7
    assert await client.is_closed()


async def test_requests_behind_the_last_bytes_of_the_handshake_are_answered_within_tls(
    bench: Bench, site: Authority
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.tls_port)
    arrived, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    secret = client_context(site, site).wrap_bio(arrived, leaving, server_hostname="127.0.0.1")
    while True:
        try:
            secret.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(leaving.read())
            arrived.write(await asyncio.wait_for(reader.read(65_536), 5))
    secret.write(b"".join(frame(read(4, at, 1), transaction=at) for at in range(100)))
    writer.write(leaving.read())
    answers = b""
    while len(answers) < 100 * 11:
        try:
            answers += secret.read(65_536)
        except ssl.SSLWantReadError:
            arrived.write(await asyncio.wait_for(reader.read(65_536), 5))
    assert [answers[at * 11 : at * 11 + 2] for at in range(100)] == [bytes((0, at)) for at in range(100)]
    writer.transport.abort()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_of_another_authority_or_without_a_certificate_is_refused(
    bench: Bench, site: Authority, stranger: Authority, version: ssl.TLSVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    for own, refused in ((stranger, True), (None, True), (site, False)):
        context = client_context(site, own)
        context.minimum_version = context.maximum_version = version
        if refused:
            assert await is_refused(bench, context)
        else:
            client = await secured(bench, context)
            assert await client.registers(4, 4, 1) == [2]
            client.close()
    assert bench.posted == []
    told = capsys.readouterr().out
    assert told.count("[warning  ] modbus client closed") == 1, "once for each address"
    assert "no TLS: CERTIFICATE_VERIFY_FAILED" in told
    assert "Traceback" not in told


async def test_many_handshakes_at_once_are_all_carried_through(site: Authority) -> None:
    """The first bytes of a handshake come with the connection: none may be taken for a request."""
    bench = await start(site, max_connections=100, patience_s=10.0)
    context = client_context(site, site)

    async def visit() -> list[int]:
        client = await secured(bench, context)
        words = await client.registers(4, 4, 2)
        client.close()
        return words

    for _ in range(3):
        assert await asyncio.gather(*(visit() for _ in range(40))) == [[2, 2]] * 40
    await bench.stop()


async def test_without_an_authority_of_clients_no_certificate_is_asked_for(site: Authority) -> None:
    bench = await start(site, mutual=False)
    client = await secured(bench, client_context(site, None))
    assert await client.registers(4, 4, 1) == [2]
    client.close()
    await bench.stop()


async def test_old_versions_and_plain_modbus_are_refused(bench: Bench, site: Authority) -> None:
    plain = await RawClient.connect(bench.tls_port)
    plain.writer.write(frame(read(4, 0, 1)))
    with pytest.raises((AssertionError, asyncio.IncompleteReadError, ConnectionResetError)):
        await plain.answer()  # an alert of TLS, or nothing
    plain.close()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(site.ca)
    old.load_cert_chain(site.cert("plc"), site.key("plc"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert await is_refused(bench, old)
    client = await secured(bench, client_context(site, site))
    assert await client.registers(4, 4, 1) == [2]
    client.close()


async def test_an_address_that_is_not_allowed_does_not_even_shake_hands(site: Authority) -> None:
    bench = await start(site, allow=("10.0.0.0/8",))
    assert await is_refused(bench, client_context(site, site))
    await bench.stop()


@pytest.mark.parametrize("start_of_a_handshake", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_who_never_shakes_hands_counts_as_a_connection_and_is_closed(
    site: Authority, start_of_a_handshake: bytes
) -> None:
    bench = await start(site, max_connections=3)
    idle = [socket.create_connection(("127.0.0.1", bench.tls_port)) for _ in range(3)]
    for each in idle:
        each.sendall(start_of_a_handshake)
        each.setblocking(False)
    await asyncio.sleep(PATIENCE_S / 5)
    assert await is_refused(bench, client_context(site, site)), "three places, three that have not shaken hands"
    surplus = await RawClient.connect(bench.port)
    assert await surplus.is_closed(), "the plain port has no places of its own"
    begun, loop = time.monotonic(), asyncio.get_running_loop()
    for each in idle:
        with pytest.raises((ConnectionResetError, EOFError)):
            if await asyncio.wait_for(loop.sock_recv(each, 1), 5) == b"":
                raise EOFError
        each.close()
    assert time.monotonic() - begun < 4 * PATIENCE_S
    client = await secured(bench, client_context(site, site))
    assert await client.registers(4, 4, 1) == [2]
    client.close()
    surplus.close()
    await bench.stop()


async def test_a_client_that_owes_its_farewell_leaves_nothing_open(bench: Bench, site: Authority) -> None:
    files = len(list(Path("/proc/self/fd").iterdir()))
    client = await secured(bench, client_context(site, site))
    assert await client.registers(4, 4, 1) == [2]
    client.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await client.is_closed()
    client.writer.transport.abort()
    for _ in range(100):
        if len(list(Path("/proc/self/fd").iterdir())) <= files:
            break
        await asyncio.sleep(0.02)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files


def test_what_is_wrong_with_a_file_is_said_with_key_and_value(
    site: Authority, stranger: Authority, tmp_path: Path
) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate\n")
    locked = tmp_path / "locked.pem"
    secret = serialization.BestAvailableEncryption(b"secret")
    plain = serialization.load_pem_private_key(site.key("bridge").read_bytes(), password=None)
    locked.write_bytes(plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    cert, key = site.cert("bridge"), site.key("bridge")
    for files, words in (
        (TlsFiles(cert=tmp_path / "none.pem", key=key), ("modbus.tls.cert", "none.pem", "no such file")),
        (TlsFiles(cert=cert, key=tmp_path), ("modbus.tls.key", str(tmp_path), "no such file")),
        (TlsFiles(cert=text, key=key), ("modbus.tls.cert", "text.pem", "a PEM certificate")),
        (TlsFiles(cert=cert, key=text), ("modbus.tls.key", "text.pem", "a PEM certificate")),
        (TlsFiles(cert=cert, key=stranger.key("plc")), ("modbus.tls.key", "key values mismatch")),
        (TlsFiles(cert=cert, key=locked), ("modbus.tls.key", "locked.pem", "without a password")),
        (TlsFiles(cert=cert, key=key, client_ca=text), ("modbus.tls.client_ca", "text.pem", "certificate authority")),
    ):
        with pytest.raises(ConfigError) as told:
            server_context(files)
        assert [word for word in words if word not in str(told.value)] == []
