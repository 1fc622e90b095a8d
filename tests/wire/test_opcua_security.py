"""The secured OPC UA server as an asyncua client sees it: policies, certificates, users and their rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import Client, ua

from bridge.outputs.opcua.log_in import FREE_TRIES
from tests.outputs.samples import outcome
from tests.wire.opcua_clients import PASSWORD, POLICIES, STATION, SecuredBench, make_pair, secured, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODES = (ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecuredBench]:
    async with secured(tmp_path_factory.mktemp("opcua")) as running:
        running.panel.publish(outcome(7))
        yield running


async def refused(bench: SecuredBench, status: int, user: str | None = "plc1", **how: object) -> None:
    with pytest.raises(ua.UaStatusCodeError) as told:
        async with bench.connected(user, **how):  # type: ignore[arg-type]
            pass
    assert told.value.code == status, told.value


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_policy_and_mode_reads_writes_and_tells(
    bench: SecuredBench, policy: str, mode: ua.MessageSecurityMode
) -> None:
    async with bench.connected("plc1", policy=policy, mode=mode) as client:
        assert await client.get_node(STATION + "Result.Sequence").read_value() == 7
        beat = client.get_node(STATION + "Control.PlcHeartbeat")
        await beat.write_value(ua.DataValue(ua.Variant(41, ua.VariantType.UInt32)))
        assert await beat.read_value() == 41


async def test_the_endpoints_are_the_six_secured_ones_and_ask_for_an_encrypted_password(bench: SecuredBench) -> None:
    endpoints = await Client(bench.url).connect_and_get_server_endpoints()
    found = {(each.SecurityPolicyUri, each.SecurityMode) for each in endpoints}
    assert found == {(policy.URI, mode) for policy in POLICIES.values() for mode in MODES}
    tokens = [token for each in endpoints for token in each.UserIdentityTokens]
    assert {token.TokenType for token in tokens} == {ua.UserTokenType.UserName}
    assert not [token for token in tokens if token.SecurityPolicyUri not in {each.URI for each in POLICIES.values()}]


async def test_policy_none_serves_discovery_alone(bench: SecuredBench) -> None:
    await refused(bench, ua.StatusCodes.BadSecurityPolicyRejected, None, policy=None)
    await refused(bench, ua.StatusCodes.BadSecurityPolicyRejected, "plc1", policy=None)


@pytest.mark.parametrize(
    ("user", "password"),
    [("plc1", "a bad password"), ("plc1", ""), ("stranger", PASSWORD), ("plc1", "x" * 130)],
)
async def test_a_wrong_password_is_refused(bench: SecuredBench, user: str, password: str) -> None:
    wanted = ua.StatusCodes.BadUserAccessDenied if password else ua.StatusCodes.BadIdentityTokenInvalid
    await refused(bench, wanted, user, password=password)
    async with bench.connected("plc1"):  # which forgets the failures
        pass


async def test_an_anonymous_client_is_refused_on_a_secured_channel(bench: SecuredBench) -> None:
    await refused(bench, ua.StatusCodes.BadIdentityTokenRejected, None)


async def test_an_activation_has_to_be_signed(bench: SecuredBench) -> None:
    client = Client(bench.url)
    client.application_uri = bench.client.uri
    await client.set_security(POLICIES["Basic256Sha256"], *bench.client.files)
    await client.connect_socket()
    try:
        await client.send_hello()
        await client.open_secure_channel()
        await client.create_session()
        with pytest.raises(ua.uaerrors.BadApplicationSignatureInvalid):
            await client.uaclient.activate_session(
                ua.ActivateSessionParameters(UserIdentityToken=ua.AnonymousIdentityToken())
            )
    finally:
        client.disconnect_socket()


async def test_roles_decide_who_writes_and_calls(bench: SecuredBench) -> None:
    beat, result = STATION + "Control.PlcHeartbeat", STATION + "Result.Sequence"
    station = "ns=2;s=line1.station1"
    value = ua.DataValue(ua.Variant(5, ua.VariantType.UInt32))
    async with bench.connected("eyes") as viewer:
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            await viewer.get_node(beat).write_value(value)
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            await viewer.get_node(station).call_method(ua.NodeId.from_string(STATION + "ResetCounters"))
        assert '"sequence"' in await viewer.get_node(station).call_method(
            ua.NodeId.from_string(STATION + "GetResult"), ua.Variant(7, ua.VariantType.UInt32)
        )
        assert ua.AccessLevel.CurrentWrite not in await viewer.get_node(beat).get_user_access_level()
        assert await viewer.get_node(beat).read_value() != 5
        assert [each.nodeid.to_string() for each in await viewer.get_node(station).get_children()]
        nodes = [viewer.get_node(beat), viewer.get_node(result)]
        registered = await viewer.register_nodes(nodes)
        assert await registered[1].read_value() == 7
        await viewer.unregister_nodes(registered)
    for user in ("hands", "plc1"):
        async with bench.connected(user) as writer:
            await writer.get_node(beat).write_value(value)
            assert ua.AccessLevel.CurrentWrite in await writer.get_node(beat).get_user_access_level()
            with pytest.raises((ua.uaerrors.BadNotWritable, ua.uaerrors.BadUserAccessDenied)):
                await writer.get_node(result).write_value(value)
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await writer.nodes.objects.add_object(2, "mine")
            assert await writer.get_node(result).read_value() == 7


async def test_nobody_touches_the_subscription_of_another(bench: SecuredBench) -> None:
    class Ears:
        def __init__(self) -> None:
            self.heard: list[object] = []

        def datachange_notification(self, _node: object, value: object, _data: object) -> None:
            self.heard.append(value)

    ears = Ears()
    async with bench.connected("plc1") as plc, bench.connected("eyes") as viewer:
        subscription = await plc.create_subscription(10, ears)
        await subscription.subscribe_data_change(plc.get_node(STATION + "Result.Sequence"))
        theirs = subscription.subscription_id
        with pytest.raises(ua.uaerrors.BadSubscriptionIdInvalid):
            await viewer.uaclient.delete_subscriptions([theirs])
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            await viewer.uaclient.transfer_subscriptions(ua.TransferSubscriptionsParameters(SubscriptionIds=[theirs]))
        bench.panel.publish(outcome(8))
        await until(lambda: 8 in ears.heard)
        bench.panel.publish(outcome(7))


async def test_guessing_locks_the_address_and_the_loop_goes_on(tmp_path: Path) -> None:
    async with secured(tmp_path) as bench, bench.connected("plc1") as plc:
        sequence = plc.get_node(STATION + "Control.PlcHeartbeat")
        guesses = asyncio.gather(
            *(
                refused(bench, ua.StatusCodes.BadUserAccessDenied, "plc1", password=f"guess no {n}")
                for n in range(FREE_TRIES)
            )
        )
        slowest, loop = 0.0, asyncio.get_running_loop()
        while not guesses.done():
            begun = loop.time()
            await sequence.read_value()
            slowest = max(slowest, loop.time() - begun)
            await asyncio.sleep(0.005)
        await guesses
        assert slowest < 0.5
        begun = loop.time()
        await refused(bench, ua.StatusCodes.BadUserAccessDenied)  # with the right password
        assert await sequence.read_value() == 0


async def test_an_unknown_certificate_is_kept_and_works_once_it_was_moved(tmp_path: Path) -> None:
    stranger = make_pair(tmp_path / "stranger", name="line 7/../SCADA")
    async with secured(tmp_path) as bench:
        await refused(bench, ua.StatusCodes.BadCertificateUntrusted, pair=stranger)
        await until(lambda: bool(list((bench.pki / "rejected").glob("*.der"))))
        (kept,) = (bench.pki / "rejected").glob("*.der")
        assert kept.name.startswith("line_7_.._SCADA [")
        assert kept.read_bytes() == stranger.der
        moved = kept.rename(bench.pki / "trusted/certs" / kept.name)
        await bench.look()
        async with bench.connected("plc1", pair=stranger) as client:
            assert await client.get_node(STATION + "Status.Ready").read_value()
            moved.unlink()
            await until(lambda: not bench.server._server.bserver.clients)  # type: ignore[union-attr]
        await refused(bench, ua.StatusCodes.BadCertificateUntrusted, pair=stranger)
