"""Clients that try to get around certificates, passwords and rights, written message by message where a client wouldn't."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_to_binary

from bridge.domain.messages import Inbound, PlcBeat
from tests.outputs.samples import outcome
from tests.wire.opcua_clients import PASSWORD, POLICIES, STATION, SecuredBench, make_pair, secured, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGN, BOTH = ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecuredBench]:
    async with secured(tmp_path_factory.mktemp("opcua"), anonymous=True) as running:
        running.panel.publish(outcome(7))
        yield running


class Odd(Client):
    """A client whose messages can be changed before they leave."""

    create: Callable[[ua.CreateSessionParameters], None] | None = None
    activate: Callable[[ua.ActivateSessionParameters], None] | None = None

    async def create_session(self) -> ua.CreateSessionResult:
        send = self.uaclient.create_session

        async def sent(params: ua.CreateSessionParameters) -> ua.CreateSessionResult:
            if self.create:
                self.create(params)
            return await send(params)

        self.uaclient.create_session = sent  # type: ignore[method-assign]
        return await super().create_session()

    async def activate_session(self, *given: Any, **named: Any) -> ua.ActivateSessionResult:
        send = self.uaclient.activate_session

        async def sent(params: ua.ActivateSessionParameters) -> ua.ActivateSessionResult:
            if self.activate:
                self.activate(params)
            return await send(params)

        self.uaclient.activate_session = sent  # type: ignore[method-assign]
        return await super().activate_session(*given, **named)


async def odd(
    bench: SecuredBench, *, mode: ua.MessageSecurityMode = BOTH, policy: str | None = "Basic256Sha256"
) -> Odd:
    client = Odd(bench.url, timeout=4)
    client.application_uri = bench.client.uri
    client.set_user("plc1")
    client.set_password(PASSWORD)
    if policy:
        await client.set_security(POLICIES[policy], *bench.client.files, mode=mode)
    return client


async def refusal(client: Client) -> str:
    try:
        await client.connect()
    except ua.UaStatusCodeError as exc:
        return type(exc).__name__
    except (ConnectionError, TimeoutError, asyncio.CancelledError) as exc:
        return type(exc).__name__
    await client.disconnect()
    return ""


async def test_a_certificate_is_judged_by_the_channel_not_by_what_the_session_names(bench: SecuredBench) -> None:
    stranger = make_pair(bench.folder / "stranger", name="stranger", uri=bench.client.uri)
    for shown in (b"", bench.client.der):
        client = await odd(bench)
        await client.set_security(POLICIES["Basic256Sha256"], *stranger.files)
        client.create = lambda params, shown=shown: setattr(params, "ClientCertificate", shown)  # type: ignore[misc]
        assert await refusal(client) == "BadCertificateUntrusted"
    for shown in (b"", stranger.der, b"\x30\x80rubbish"):
        client = await odd(bench)
        client.create = lambda params, shown=shown: setattr(params, "ClientCertificate", shown)  # type: ignore[misc]
        assert await refusal(client) in ("BadCertificateInvalid", "BadInternalError")


async def test_a_short_nonce_is_refused(bench: SecuredBench) -> None:
    client = await odd(bench)
    client.create = lambda params: setattr(params, "ClientNonce", b"1")
    assert await refusal(client) == "BadNonceInvalid"


@pytest.mark.parametrize("mode", [SIGN, BOTH])
async def test_a_password_in_the_clear_is_refused(bench: SecuredBench, mode: ua.MessageSecurityMode) -> None:
    def clear(params: ua.ActivateSessionParameters) -> None:
        params.UserIdentityToken.Password = PASSWORD.encode()
        params.UserIdentityToken.EncryptionAlgorithm = None

    client = await odd(bench, mode=mode)
    client.activate = clear
    assert await refusal(client) == "BadIdentityTokenInvalid"


async def test_a_user_name_over_policy_none_is_refused_though_anonymous_clients_may_write(bench: SecuredBench) -> None:
    for algorithm in (None, "http://www.w3.org/2001/04/xmlenc#rsa-oaep", "http://www.w3.org/2001/04/xmlenc#rsa-1_5"):
        client = await odd(bench, policy=None)
        client.activate = lambda params, algorithm=algorithm: setattr(  # type: ignore[misc]
            params.UserIdentityToken, "EncryptionAlgorithm", algorithm
        )
        assert await refusal(client) == "BadIdentityTokenRejected"
    async with bench.connected(policy=None) as anybody:
        await anybody.get_node(STATION + "Control.PlcHeartbeat").write_value(
            ua.DataValue(ua.Variant(9, ua.VariantType.UInt32))
        )
    assert beats(bench.posted)[-1] == 9
    async with bench.connected() as secret:  # anonymous, over a secured channel
        assert await secret.get_node(STATION + "Result.Sequence").read_value() == 7


def beats(posted: list[Inbound]) -> list[int]:
    return [each.value for each in posted if isinstance(each, PlcBeat)]


async def test_an_encrypted_password_of_another_session_is_no_password(bench: SecuredBench) -> None:
    overheard: list[bytes] = []
    first = await odd(bench)
    first.activate = lambda params: overheard.append(params.UserIdentityToken.Password)
    assert await refusal(first) == ""
    again = await odd(bench)
    again.activate = lambda params: setattr(params.UserIdentityToken, "Password", overheard[0])
    assert await refusal(again) == "BadIdentityTokenInvalid"


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 256, b"x" * 400_000])
async def test_a_password_that_is_no_ciphertext_is_refused(bench: SecuredBench, garbage: bytes) -> None:
    client = await odd(bench)
    client.activate = lambda params: setattr(params.UserIdentityToken, "Password", garbage)
    assert await refusal(client) == "BadIdentityTokenInvalid"


async def test_a_session_can_not_be_taken_from_its_client(bench: SecuredBench) -> None:
    thief_pair = make_pair(bench.folder / "thief", name="thief")
    bench.trust(thief_pair)
    await until(lambda: len(bench.server._access._trust.pinned) >= 2)
    async with bench.connected("plc1") as plc:
        tokens = list(bench.server._server.iserver._external_sessions)  # type: ignore[union-attr]
        assert all(len(each.Identifier) == 32 for each in tokens)
        for policy, pair in ((None, bench.client), ("Basic256Sha256", thief_pair)):
            thief = Client(bench.url, timeout=4)
            thief.application_uri = pair.uri
            if policy:
                await thief.set_security(POLICIES[policy], *pair.files)
            await thief.connect_socket()
            await thief.send_hello()
            await thief.open_secure_channel()
            request = ua.ActivateSessionRequest()
            request.RequestHeader.AuthenticationToken = tokens[0]
            request.Parameters.UserIdentityToken = ua.AnonymousIdentityToken()
            with pytest.raises(ua.uaerrors.BadSecurityChecksFailed):
                await ask(thief, request, tokens[0])
            thief.disconnect_socket()
        assert await plc.get_node(STATION + "Result.Sequence").read_value() == 7


async def ask(client: Client, request: Any, token: ua.NodeId) -> None:
    """Send a request with a token of one's own choice."""
    protocol = client.uaclient.protocol
    protocol.authentication_token = token
    data = await protocol.send_request(request)
    ua.ua_binary.nodeid_from_binary(data)
    ua.ua_binary.struct_from_binary(ua.ResponseHeader, data).ServiceResult.check()


async def test_without_a_channel_nothing_is_served(bench: SecuredBench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
    request = ua.ReadRequest()
    request.Parameters.NodesToRead = [ua.ReadValueId(NodeId=ua.NodeId(2258), AttributeId=ua.AttributeIds.Value)]
    body = struct.pack("<IIII", 0, 0, 1, 1) + struct_to_binary(request)
    writer.write(b"MSGF" + struct.pack("<I", len(body) + 8) + body)
    header = await asyncio.wait_for(reader.readexactly(8), 5)
    answer = await reader.readexactly(struct.unpack("<I", header[4:])[0] - 8)
    assert struct.pack("<I", ua.StatusCodes.BadSessionIdInvalid) in answer
    writer.close()


async def test_strangers_register_no_servers_and_users_no_nodes(bench: SecuredBench) -> None:
    client = Client(bench.url, timeout=4)
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    try:
        request = ua.RegisterServerRequest()
        request.Server.ServerUri = "urn:evil"
        request.Server.ServerNames = [ua.LocalizedText("evil")]
        with pytest.raises(ua.uaerrors.BadServiceUnsupported):
            await ask(client, request, ua.NodeId())
        assert [each.ApplicationUri for each in await client.find_servers()] != ["urn:evil"]
    finally:
        client.disconnect_socket()


@pytest.mark.parametrize("message", [b"OPNF", b"MSGF", b"CLOF", b"XYZF"])
async def test_rubbish_ends_the_connection(bench: SecuredBench, message: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
    writer.write(message + struct.pack("<I", 208) + bytes(range(200)))
    told = await asyncio.wait_for(reader.read(), 5)
    assert told[:4] in (b"ERRF", b"")
    writer.close()


async def test_sessions_of_one_connection_do_not_pile_up(bench: SecuredBench) -> None:
    client = Client(bench.url, timeout=4)
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    server = bench.server._server
    assert server is not None
    before = len(server.iserver._external_sessions)
    for _ in range(50):
        await client.create_session()
    assert len(server.iserver._external_sessions) <= before + 1
    client.disconnect_socket()


async def test_a_crowd_of_strangers_fills_no_disk(tmp_path: Path) -> None:
    pairs = [make_pair(tmp_path / f"s{n}", name=f"stranger {n}") for n in range(30)]
    async with secured(tmp_path) as bench:
        for pair in pairs:
            with pytest.raises(ua.UaStatusCodeError):
                async with bench.connected("plc1", pair=pair):
                    pass
        async with bench.connected("plc1") as plc:
            assert await plc.get_node(STATION + "Status.Ready").read_value()
        assert 1 <= len(list((bench.pki / "rejected").glob("*.der"))) <= 10
