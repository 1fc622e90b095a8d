"""The bridge as the client of a PLC that is an OPC UA server: types, one call a verdict, loss, and what is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from bridge.domain.messages import Arrival, Command, EncoderSample, PlcBeat, PlcEnable, SpeedSample
from bridge.domain.verdict import VerdictCode
from bridge.errors import ConfigError
from bridge.outputs.opcua.client import OpcUaClientSettings
from bridge.outputs.opcua.nodes import check_tags
from bridge.outputs.plc.register_map import slot_address
from tests.outputs.samples import READY
from tests.wire.client_bench import ClientBench, client_bench
from tests.wire.opcua_twin import NAMESPACE, OpcUaTwin, nodes

VALID, MISSED, COUNTS, TIME = 1, 2, 4, 8
UP, LOST, REFUSED = (("opcua_client", state) for state in ("up", "lost", "refused"))


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def twin() -> AsyncIterator[OpcUaTwin]:
    """One PLC for most tests: it takes seconds to start."""
    plc = OpcUaTwin()
    await plc.start()
    yield plc
    await plc.stop()


def settings(twin: OpcUaTwin, table: Mapping[str, str] | None = None, **changes: object) -> OpcUaClientSettings:
    quick = OpcUaClientSettings(endpoint=twin.url, nodes=table or nodes(), timeout_s=0.6, read_s=0.02, write_s=0.05)
    return replace(quick, **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def joined(
    twin: OpcUaTwin, table: Mapping[str, str] | None = None, **changes: object
) -> AsyncIterator[ClientBench]:
    """Run a client that writes into the PLC that these tests share."""
    await twin.reset()
    async with client_bench(settings(twin, table, **changes)) as bench:
        await bench.until(lambda: UP in bench.links())
        yield bench


async def test_a_verdict_stands_in_the_plcs_own_types(twin: OpcUaTwin) -> None:
    async with joined(twin) as bench:
        open_ns = bench.publish(123_456)
        await twin.until("sequence", 123_456)
        found = {
            name: await twin.value(name) for name in ("verdict", "disposition", "label", "written", "flags", "ready")
        }
        assert found == {"verdict": 2, "disposition": "REJECT", "label": "crack", "written": 1,
                         "flags": VALID | COUNTS | TIME, "ready": True}  # fmt: skip
        assert await twin.value("score") == pytest.approx(0.93)
        assert await twin.value("openAt") == round(open_ns / 1e6)
        assert await twin.value("openCount") == 462_639
        assert abs(await twin.value("clock") - time.monotonic_ns() // 1_000_000) < 200
        ring = await twin.value("ring")
    at = slot_address(123_456) - 100
    assert ring[at : at + 3] == [1, 57_920, 2]


async def test_a_verdict_is_one_call_with_its_sequence_last(twin: OpcUaTwin) -> None:
    async with joined(twin) as bench:
        for sequence, code in ((5, VerdictCode.FAIL), (6, VerdictCode.FAIL), (7, VerdictCode.PASS)):
            bench.publish(sequence, code=code)
            await twin.until("sequence", sequence)
        calls = [call for call in twin.calls if dict(call).get("sequence") in {5, 6, 7}]
    assert [dict(call)["sequence"] for call in calls] == [5, 6, 7], "one call each"
    for call in calls:
        assert call[-1][0] == "sequence"
        assert {"verdict", "disposition", "label", "score", "written", "flags", "openCount", "ring"} <= {
            name for name, _ in call
        }
    assert [dict(call)["verdict"] for call in calls] == [2, 2, 1]


async def test_without_a_valid_result_the_verdict_is_none_and_no_order_is_left(twin: OpcUaTwin) -> None:
    async with joined(twin) as bench:
        assert (await twin.value("verdict"), await twin.value("disposition")) == (0, "NONE")
        bench.publish(5)
        await twin.until("flags", VALID | COUNTS | TIME)
        bench.panel.check_heartbeat(time.monotonic_ns() + 3_000_000_000)
        await twin.until("flags", 0)
        assert (await twin.value("verdict"), await twin.value("ready")) == (0, False)


async def test_the_plcs_own_tags_reach_the_station(twin: OpcUaTwin) -> None:
    async with joined(twin) as bench:
        await bench.until(lambda: bench.told(EncoderSample))
        assert (bench.told(SpeedSample), bench.told(PlcBeat)) == ([], []), "not supplied, and no life yet"
        for name, value in (
            ("speed", 1200.0),
            ("encoder", -5),
            ("beat", 1),
            ("enable", False),
            ("recipe", "bracket-b"),
        ):
            await twin.put(name, value)
        await bench.until(lambda: all(bench.told(kind) for kind in (SpeedSample, PlcBeat, PlcEnable, Command)))
        await bench.until(lambda: bench.told(EncoderSample)[-1].counts == 2**32 - 5)
        assert bench.told(SpeedSample)[-1].mm_s == 1200.0
        assert bench.told(PlcEnable) == [PlcEnable(enabled=False)]
        assert bench.told(Command)[-1].recipe == "bracket-b"


async def test_a_trigger_by_handshake_is_acknowledged(twin: OpcUaTwin) -> None:
    async with joined(twin) as bench:
        await bench.until(lambda: bench.told(EncoderSample))
        await twin.put("triggerSequence", 77)
        await twin.put("trigger", True)
        await twin.until("triggerAck", True)
        assert [each.trigger.sequence for each in bench.told(Arrival)] == [77]
        await twin.put("trigger", False)
        await twin.until("triggerAck", False)


async def test_what_stands_at_the_first_sight_is_no_edge(twin: OpcUaTwin) -> None:
    await twin.reset()
    for name, value in (("trigger", True), ("recipe", "bracket-b"), ("beat", 44)):
        await twin.put(name, value)
    async with client_bench(settings(twin)) as bench:
        await bench.until(lambda: len(bench.told(EncoderSample)) > 3)
        assert (bench.told(Arrival), bench.told(Command), bench.told(PlcBeat)) == ([], [], [])


async def test_after_a_loss_no_old_order_is_valid() -> None:
    twin = OpcUaTwin()
    await twin.start()
    async with client_bench(settings(twin)) as bench:
        await bench.until(lambda: bench.links() == [UP])
        bench.publish(1, due_in_ms=250)
        await twin.until("flags", VALID | COUNTS | TIME)
        await twin.stop()
        await bench.until(lambda: bench.links()[-1] == LOST)
        bench.publish(2, due_in_ms=100)
        await asyncio.sleep(0.3)
        twin.calls.clear()
        await twin.start()
        await bench.until(lambda: bench.links()[-1] == UP)
        first = dict(twin.calls[0])
        assert (first["gateSequence"], first["flags"]) == (2, MISSED | COUNTS)
        for sequence in (1, 2):
            at = slot_address(sequence) - 100
            assert first["ring"][at + 1] == sequence
            assert first["ring"][at + 13] == MISSED | COUNTS
        assert bench.undelivered() == [2]
        assert bench.clients.reconnects == {"opcua_client": 1}
        assert bench.links() == [UP, LOST, UP]
    await twin.stop()


async def test_an_order_that_was_overtaken_is_told_unless_the_ring_brings_it(twin: OpcUaTwin) -> None:
    for tags, expected in (({"Gate.Flags": "ns=2;s=flags"}, [1]), (nodes("Gate.Flags", "Ring.Words"), [])):
        async with joined(twin, tags) as bench:
            twin.delay_s = 0.1
            bench.panel.show(replace(READY, busy=True), now_ns=time.monotonic_ns())
            bench.publish(1, due_in_ms=400)
            bench.publish(2, due_in_ms=5_000)
            await asyncio.sleep(0.6)
            assert bench.undelivered() == expected


@pytest.mark.parametrize(
    ("table", "named"),
    [
        (
            {"Result.Verdict": "ns=2;s=nowhere"},
            ["nodes.Result.Verdict = 'ns=2;s=nowhere'", "no such variable", "BadNodeIdUnknown"],
        ),
        ({"Result.Verdict": "ns=2;s=folder"}, ["no such variable"]),
        ({"Result.Sequence": "ns=2;s=verdict"}, ["Result.Sequence", "type Int16 can't hold a UInt32"]),
        ({"Result.Score": "ns=2;s=written"}, ["type Int32 can't hold a Double"]),
        ({"Result.Label": "ns=2;s=verdict"}, ["type Int16 can't hold a String"]),
        ({"Result.Label": "ns=2;s=picture"}, ["type ByteString can't hold a String"]),
        ({"Ring.Words": "ns=2;s=flags"}, ["takes one value, not an array"]),
        ({"Gate.Flags": "ns=2;s=ring"}, ["is an array"]),
        ({"Control.RecipeRequest": "ns=2;s=beat", "Result.Label": "ns=2;s=label"}, ["type Int16 can't give a String"]),
        ({"Result.Verdict": "nsu=urn:other;s=verdict"}, ["no namespace 'urn:other'", NAMESPACE]),
    ],
)
async def test_a_node_that_cannot_be_used_is_named_with_its_key(
    twin: OpcUaTwin, table: dict[str, str], named: list[str]
) -> None:
    await twin.reset()
    async with client_bench(settings(twin, table)) as bench:
        await bench.until(lambda: bench.links() == [REFUSED])
        for each in named:
            assert each in bench.reason()
        assert twin.calls == [], "nothing is written by halves"


async def test_a_namespace_can_be_given_by_its_uri(twin: OpcUaTwin) -> None:
    async with joined(twin, {"Result.Sequence": f"nsu={NAMESPACE};s=sequence"}) as bench:
        bench.publish(9)
        await twin.until("sequence", 9)


async def test_a_server_that_accepts_and_never_answers_hangs_nothing(twin: OpcUaTwin) -> None:
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    mute = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    dead = OpcUaClientSettings(endpoint=f"opc.tcp://127.0.0.1:{port}/", nodes=nodes(), timeout_s=0.2)
    async with joined(twin) as other, client_bench(dead, station="station2") as bench:
        await bench.until(lambda: len(held) >= 3)
        begun = time.monotonic()
        other.publish(5)
        await twin.until("sequence", 5)
        assert time.monotonic() - begun < 0.3, "the other PLC does not wait for it"
        begun = time.monotonic()
    assert time.monotonic() - begun < 3.0
    assert bench.links() == [LOST]
    for writer in held:
        writer.close()
    mute.close()


async def test_a_server_that_stops_answering_is_lost_and_found_again(twin: OpcUaTwin) -> None:
    async with joined(twin) as bench:
        twin.delay_s = 3.0
        await bench.until(lambda: bench.links()[-1] == LOST)
        assert "no answer within 0.6 s" in bench.reason()
        twin.delay_s = 0.0
        bench.publish(8)
        await bench.until(lambda: bench.links()[-1] == UP)
        await twin.until("sequence", 8)


async def certificate(folder: Path, name: str, uri: str, *use: Any) -> tuple[Path, Path]:
    key, cert = folder / f"{name}.pem", folder / f"{name}.der"
    await setup_self_signed_certificate(key, cert, uri, "localhost", list(use), {"commonName": name})
    return cert, key


async def test_encrypted_with_user_name_and_password(tmp_path: Path) -> None:
    twin = OpcUaTwin()
    twin.secure = await certificate(tmp_path, "plc", "urn:acme:plc:server", ExtendedKeyUsageOID.SERVER_AUTH)
    cert, key = await certificate(tmp_path, "linegate", "urn:plant:linegate", ExtendedKeyUsageOID.CLIENT_AUTH)
    await twin.start()
    own = settings(twin, username="linegate", password="swordfish", security="Basic256Sha256", certificate=cert,
                   private_key=key, server_certificate=twin.secure[0], timeout_s=1.0)  # fmt: skip
    async with client_bench(own) as bench:
        await bench.until(lambda: bench.links() == [UP])
        bench.publish(4)
        await twin.until("sequence", 4)
    async with client_bench(replace(own, password="wrong", server_certificate=None)) as bench:
        await bench.until(lambda: bench.links() == [REFUSED])
        assert "BadUserAccessDenied" in bench.reason()
        assert "wrong" not in bench.reason()
    assert "swordfish" not in repr(own)
    await twin.stop()


async def test_an_unknown_tag_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"opcua_client\.nodes: unknown tag 'Result\.Verdct'; .*'Result\.Verdict'"):
        check_tags({"Result.Verdct": "ns=2;s=x"}, key="opcua_client.nodes")
    with pytest.raises(ConfigError, match=r"Result\.Verdict = 'i=x'"):
        check_tags({"Result.Verdict": "i=x"}, key="opcua_client.nodes")
    check_tags(nodes(), key="opcua_client.nodes")
