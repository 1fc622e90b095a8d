"""The flow plc-modbus against a real bridge: what it decodes and writes, how it recovers; and its functions alone."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.domain.gate import GateOrder
from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.register_map import encode_slot, encode_status
from bridge.outputs.plc.view import PlcView, Shown
from bridge.outputs.plc.words import WordOrder
from tests.cli.processes import PICTURES, Bridge, Publisher, eventually
from tests.flows.functions import function_of
from tests.flows.node_red import NodeRed, node_red
from tests.flows.rigs import bridge_far_from_the_gate
from tests.outputs.samples import ORDERED, result, status
from tests.wire.mbpoll import needs_mbpoll, over_tcp

pytestmark = [pytest.mark.flows, pytest.mark.timeout(180)]

FLOW = "plc-modbus.json"
ORDERS: tuple[WordOrder, ...] = ("high_first", "low_first")
PASSES = sorted((PICTURES / "good").glob("*.jpg"))[0].read_bytes()
FAILS = sorted((PICTURES / "pitting").glob("*.jpg"))[-1].read_bytes()
SEQUENCES = itertools.count(70_000)
RING_BASE, SLOT = 100, 14


@dataclass
class Line:
    """A bridge whose belt speed comes from the PLC, its broker, and a Node-RED with the flow."""

    bridge: Bridge
    red: NodeRed
    publisher: Publisher

    def valid(self) -> bool:
        return bool(self.red.statuses().get("valid?", {}).get("text") == "valid")

    def send(self, picture: bytes) -> int:
        """Send one part; gives its sequence once its verdict is out."""
        sequence = next(SEQUENCES)
        self.publisher.send(picture, content_type="image/jpeg", user_properties=[("sequence", str(sequence))])
        self.publisher.verdict_of(sequence)
        return sequence

    def shown(self, sequence: int, node: str = "new results") -> Any:
        """Wait for what the flow shows of a part."""
        return eventually(lambda: [each for each in self.red.debug(node) if each["sequence"] == sequence])[0]

    def registers(self, table: int, address: int, count: int = 1) -> list[int]:
        """Read as mbpoll does."""
        told = asyncio.run(over_tcp(self.bridge.ports.modbus, "-t", table, "-r", address, "-c", count))
        assert told.code == 0, told.text
        return [told.values[address + place] & 0xFFFF for place in range(count)]


@pytest.fixture(scope="module", params=ORDERS)
def line(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("modbus")
    order = request.param
    settings = {"modbus__word_order": order, "opcua__enabled": "false"}
    with bridge_far_from_the_gate(folder, settings=settings) as bridge:
        environment = {"LINEGATE_MODBUS_PORT": str(bridge.ports.modbus), "LINEGATE_WORD_ORDER": order}
        with (
            node_red(folder, flows=[FLOW], environment=environment) as red,
            Publisher(bridge.ports.mqtt) as publisher,
        ):
            made = Line(bridge=bridge, red=red, publisher=publisher)
            eventually(lambda: bridge.get("/readyz")[0] == 200, 60)
            eventually(made.valid, 60)
            yield made


@needs_mbpoll
def test_it_decodes_what_mbpoll_reads(line: Line) -> None:
    line.red.inject("start the demo belt")
    eventually(lambda: line.registers(3, 35) == [1200])
    passed, failed = line.send(PASSES), line.send(FAILS)
    assert line.shown(passed)["verdict"] == line.publisher.verdict_of(passed)["verdict"]
    shown = line.shown(failed)
    low = line.red.environment["LINEGATE_WORD_ORDER"] == "low_first"

    def u32(words: list[int]) -> int:
        return words[1] << 16 | words[0] if low else words[0] << 16 | words[1]

    words = line.registers(3, RING_BASE + SLOT * (failed % 16), SLOT)
    assert (
        (shown["sequence"], shown["code"], shown["labelId"]) == (u32(words[:2]), words[2], words[4]) == (failed, 2, 1)
    )
    assert (shown["verdict"], shown["disposition"], round(shown["score"] * 10_000)) == ("FAIL", "REJECT", words[5])
    assert list(shown["flags"].values()) == [bool(words[13] >> bit & 1) for bit in range(8)]
    order = line.shown(failed, "orders")
    assert order["state"] == "ordered"
    assert order["windowMs"] == words[12]
    line.red.inject("stop the demo belt")
    station = line.red.debug("station")[-1]
    assert station["valid"]
    assert station["bits"]["ready"]
    assert line.red.problems() == []


@needs_mbpoll
def test_its_heartbeat_counts_and_its_speed_is_the_belts_until_it_stops_coming(line: Line) -> None:
    beats = {eventually(lambda: line.registers(4, 1))[0]}
    eventually(lambda: beats.add(line.registers(4, 1)[0]) or len(beats) >= 4)  # type: ignore[func-returns-value]
    assert max(beats) - min(beats) < 40
    assert not line.registers(3, 0)[0] >> 10 & 1  # PlcHeartbeatLost
    line.red.inject("start the demo belt")
    eventually(lambda: line.registers(4, 6) == [1200])
    first = line.registers(4, 4, 2)
    eventually(lambda: line.registers(4, 4, 2) != first)
    line.red.inject("stop the demo belt")
    assert eventually(lambda: line.registers(4, 6) == [65535])


@needs_mbpoll
def test_its_heartbeat_gives_way_to_a_plc(line: Line) -> None:
    eventually(lambda: line.red.statuses()["heartbeat"]["text"] == "writing")
    for beat in range(5000, 5003):
        asyncio.run(over_tcp(line.bridge.ports.modbus, "-t", 4, "-r", 1, values=(beat,)))
        eventually(lambda: line.red.statuses()["heartbeat"]["text"] == "another PLC writes")
        assert line.registers(4, 1) == [beat]
    eventually(lambda: line.red.statuses()["heartbeat"]["text"] == "writing")


def test_a_bridge_that_hangs_is_not_valid_and_one_that_returns_is(line: Line) -> None:
    line.send(PASSES)
    line.bridge.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: line.red.statuses()["valid?"]["fill"] == "grey", 6)
        shown = line.red.debug("station")[-1]
        assert (shown["valid"], shown["result"]) == (False, None)
    finally:
        line.bridge.process.send_signal(signal.SIGCONT)
    eventually(line.valid, 10)
    sequence = line.send(FAILS)
    assert line.shown(sequence)["verdict"] == line.publisher.verdict_of(sequence)["verdict"]


def test_a_bridge_that_was_killed_is_followed_again_within_10_s(line: Line) -> None:
    line.bridge.kill()
    eventually(lambda: line.red.statuses()["valid?"]["text"] == "not valid: no answer from the bridge", 6)
    line.bridge.start()
    eventually(lambda: line.bridge.get("/healthz")[0] == 200, 60)
    eventually(line.valid, 10)
    eventually(lambda: line.bridge.get("/readyz")[0] == 200, 60)
    sequence = line.send(FAILS)
    assert line.shown(sequence)["verdict"] == line.publisher.verdict_of(sequence)["verdict"]
    eventually(lambda: line.red.statuses()["heartbeat"]["text"] == "writing", 10)
    assert line.red.debug("lost results") == []


def shown(sequence: int = 2**32 - 1, order: GateOrder = ORDERED, **changes: Any) -> Shown:
    return Shown(result=result(sequence, order=order, **changes), order=order, document="{}")


def decoded(view: PlcView, order: WordOrder = "high_first", **words: int) -> Any:
    """Let the flow decode registers 0 to 54 of a view; `words` are put into them first, by r0, r1, ..."""
    registers = encode_status(view, order)[:55]
    for name, word in words.items():
        registers[int(name[1:])] = word
    env = {"LINEGATE_WORD_ORDER": order}
    status_of = function_of(FLOW, "decode words").run([{"payload": registers}], env=env)
    return function_of(FLOW, "decode result").run(status_of[0].sent, env=env)[0]


@pytest.mark.parametrize("order", ORDERS)
def test_it_decodes_u32_in_both_orders_up_to_the_last_count(order: WordOrder) -> None:
    newest = shown()
    view = PlcView(
        status=status(), newest=newest, shown=newest, valid=True, live=True, written=2**32 - 1, accepted_sequence=0
    )
    said = decoded(view, order).sent[0]["payload"]
    assert (said["written"], said["lastSequence"], said["counters"]["triggers"]) == (2**32 - 1, 0, 100_000)
    part = said["result"]
    assert (part["sequence"], part["openCount"], part["closeCount"]) == (2**32 - 1, 462_639, 463_939)
    assert (part["verdict"], part["disposition"], part["score"], part["latencyMs"]) == ("FAIL", "REJECT", 0.93, 6)
    assert said["bits"]["resultValid"]
    assert (said["beltSpeed"], said["firingErrorMs"]) == (1200, -0.4)


def test_what_is_absent_is_null_and_a_firing_error_has_a_sign() -> None:
    newest = shown(score=None)
    view = PlcView(status=status(), newest=newest, shown=newest, valid=True, written=1)
    absent = decoded(view, r35=65535, r54=0x8000).sent[0]["payload"]
    assert (absent["beltSpeed"], absent["firingErrorMs"], absent["result"]["score"]) == (None, None, None)
    for word, error_ms in ((0xFFFF, -0.1), (0x8001, -3276.7), (0, 0), (25, 2.5)):
        assert decoded(view, r54=word).sent[0]["payload"]["firingErrorMs"] == error_ms
    for word, score in ((0, 0), (1, 0.0001), (10_000, 1), (65535, None)):
        assert decoded(view, r7=word).sent[0]["payload"]["result"]["score"] == score


@pytest.mark.parametrize("changes", [{"r4": 0}, {"r0": 0}, {"r4": 6}, {"r4": 65535}, {"r5": 3}])
def test_no_result_is_ever_made_of_what_is_none(changes: dict[str, int]) -> None:
    newest = shown(code=VerdictCode.PASS, order=GateOrder())
    call = decoded(PlcView(status=status(), newest=newest, shown=newest, valid=True, written=1), **changes)
    assert call.sent[0]["payload"]["result"] is None
    assert len(call.error) == (changes not in ({"r4": 0}, {"r0": 0}))


def test_a_zeroed_or_cut_map_is_no_result() -> None:
    zeroed = function_of(FLOW, "decode words").run([{"payload": [0] * 55}, {"payload": [0] * 54}, {"payload": None}])
    assert function_of(FLOW, "decode result").run(zeroed[0].sent)[0].sent[0]["payload"]["result"] is None
    assert [(call.sent, len(call.error)) for call in zeroed.calls[1:]] == [([], 1), ([], 1)]


def ring_of(*parts: Shown, order: WordOrder = "high_first") -> list[int]:
    words = [0] * 224
    for part in parts:
        at = SLOT * (part.result.part.sequence % 16)
        words[at : at + SLOT] = encode_slot(part, order)
    return words


@pytest.mark.parametrize("order", ORDERS)
def test_the_ring_is_decoded_slot_by_slot_and_an_empty_slot_is_known_by_its_verdict(order: WordOrder) -> None:
    zero = shown(0, code=VerdictCode.PASS, order=GateOrder())
    words = ring_of(zero, shown(), order=order)
    call = function_of(FLOW, "16 slots of 14 words").run([{"payload": words, "wordOrder": order}])[0]
    slots = call.sent[0]["payload"]
    assert [number for number, slot in enumerate(slots) if slot] == [0, 15]
    assert (slots[0]["sequence"], slots[0]["verdict"], slots[0]["flags"]["order"]) == (0, "PASS", False)
    last = slots[15]
    assert (last["sequence"], last["verdict"], last["score"]) == (2**32 - 1, "FAIL", 0.93)
    assert (last["openCount"], last["closeCount"], last["momentMs"], last["windowMs"]) == (462_639, 463_939, 5481, 108)
    assert (last["flags"]["order"], last["flags"]["counts"], last["flags"]["time"]) == (True, True, True)


@pytest.mark.parametrize(
    "words", [[0] * 223, None, "ring", [0, 0, 6, *[0] * 221], [0, 0, 65535, *[0] * 221], [0, 0, 1, 3, *[0] * 220]]
)
def test_what_cannot_be_a_ring_is_told_and_gives_no_result(words: Any) -> None:
    call = function_of(FLOW, "16 slots of 14 words").run([{"payload": words}])[0]
    assert (call.outputs[0], len(call.outputs[1])) == ([], 1)
    assert call.outputs[1][0]["error"]


def slot(sequence: int, verdict: str = "PASS", code: int = 1) -> dict[str, Any]:
    values = {"labelId": 0, "score": 0.5, "openCount": 0, "momentMs": 1}
    return {"sequence": sequence, "verdict": verdict, "code": code, **values}


def test_each_new_result_is_told_once_in_order_over_the_rollover() -> None:
    top = 2**32 - 1
    looks = [
        {"written": 1, "payload": [slot(5), *[None] * 15]},
        {"written": 3, "payload": [slot(0), slot(5), *[None] * 13, slot(top)]},
        {"written": 3, "payload": [{**slot(0), "momentMs": 9}, slot(5), *[None] * 13, slot(top)]},
        {"written": 4, "payload": [slot(0), slot(1), *[None] * 13, slot(top)]},
    ]
    run = function_of(FLOW, "keep the new ones").run(looks)
    assert [[each["payload"]["sequence"] for each in call.sent] for call in run.calls] == [[], [top, 0], [], [1]]
    assert [call.outputs[1] for call in run.calls] == [[]] * 4


def test_results_that_were_overwritten_are_told_and_a_restart_of_the_bridge_is_no_loss() -> None:
    looks = [
        {"written": 0, "payload": [None] * 16},
        {"written": 1, "payload": [slot(16), *[None] * 15]},
        {"written": 19, "payload": [slot(sequence) for sequence in range(32, 48)]},
        {"written": 1, "payload": [slot(32), *[None] * 15]},
        {"written": 2, "payload": [slot(32), slot(33), *[None] * 14]},
    ]
    run = function_of(FLOW, "keep the new ones").run(looks)
    assert [len(call.sent) for call in run.calls] == [0, 1, 16, 1, 1]
    assert [[each["payload"]["lost"] for each in call.outputs[1]] for call in run.calls] == [[], [], [2], [], []]


def test_a_heartbeat_that_stands_still_for_2_s_is_not_valid() -> None:
    def station(beat: int, **bits: bool) -> dict[str, Any]:
        return {"payload": {"heartbeat": beat, "bits": {"online": True, **bits}, "result": {"verdict": "PASS"}}}

    tick = {"payload": 1}
    steps = [(0, station(7)), (500, station(8)), (2000, station(8)), (2600, station(8)), (2700, station(9)),
             (2800, station(9, online=False)), (2900, station(9)), (4950, tick)]  # fmt: skip
    run = function_of(FLOW, "valid?").run([message for _, message in steps], now_ms=[1e12 + at for at, _ in steps])
    said = [call.sent[0]["payload"] for call in run.calls]
    assert [each["valid"] for each in said] == [False, True, True, False, True, False, True, False]
    assert [bool(each["result"]) for each in said] == [each["valid"] for each in said]
    assert "stands still" in said[3]["reason"]
    assert "not online" in said[5]["reason"]
    assert "no answer" in said[7]["reason"]
    assert run[3].status == [{"fill": "grey", "shape": "ring", "text": "not valid: " + said[3]["reason"]}]


def test_only_an_order_that_holds_shows_its_counts_and_moment() -> None:
    flags = {"order": True, "missed": False, "counts": True, "time": True}
    part = {"sequence": 1, "disposition": "REJECT", "windowMs": 108, "openCount": 5, "closeCount": 6, "momentMs": 7}
    given = [{}, {"counts": False}, {"time": False}, {"order": False, "missed": True}, {"order": False}]
    run = function_of(FLOW, "gate orders").run([{"payload": {**part, "flags": {**flags, **each}}} for each in given])
    said = [call.sent[0]["payload"] if call.sent else None for call in run.calls]
    assert said[4] is None
    assert [(each["state"], each["openCount"], each["momentMs"], each["windowMs"]) for each in said if each] == [
        ("ordered", 5, 7, 108), ("ordered", None, 7, 108), ("ordered", 5, None, 108), ("missed", None, None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(("order", "words"), [("high_first", [1, 57920]), ("low_first", [57920, 1])])
def test_speed_and_encoder_are_written_in_the_bridges_order_and_withdrawn_after_1_s(
    order: str, words: list[int]
) -> None:
    steps: list[tuple[int, dict[str, Any]]] = [
        (0, {"topic": "speed", "payload": 1200.4}), (0, {"topic": "encoder", "payload": 123_456}), (100, {}), (1200, {}),
        (1200, {"topic": "speed", "payload": 65535}), (1200, {"topic": "speed", "payload": None}),
        (1200, {"topic": "speed", "payload": "fast"}), (1300, {}), (1300, {"topic": "speed", "payload": 0}), (1400, {}),
    ]  # fmt: skip
    run = function_of(FLOW, "speed and encoder").run(
        [message for _, message in steps], now_ms=[1e12 + at for at, _ in steps], env={"LINEGATE_WORD_ORDER": order}
    )
    writes = [[(each["payload"]["address"], each["payload"]["value"]) for each in call.sent] for call in run.calls]
    assert writes[2] == [(6, [1200]), (4, words)]
    assert (writes[3], writes[7], writes[9]) == ([(6, [65535])], [(6, [65535])], [(6, [0])])
    assert [len(call.warn) for call in run.calls] == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0]


def test_the_heartbeat_rolls_over_and_stops_while_a_plc_counts() -> None:
    reads = [*[(at, 65534) for at in (0, 500, 2600)], (3100, 65535), (3600, 0), (4100, 700), (4600, 701), (7300, 701)]
    run = function_of(FLOW, "heartbeat").run(
        [{"payload": [0, beat]} for _, beat in reads], now_ms=[1e12 + at for at, _ in reads]
    )
    written = [call.sent[0]["payload"]["value"] if call.sent else None for call in run.calls]
    assert written == [None, None, 65535, 0, 1, None, None, 702]


def test_the_demo_belt_moves_by_the_clock_and_stands_when_stopped() -> None:
    steps = [(0, "start"), (250, 1), (500, 1), (500, "stop"), (750, 1)]
    run = function_of(FLOW, "demo belt").run(
        [{"payload": payload} for _, payload in steps], now_ms=[1e12 + at for at, _ in steps]
    )
    assert [[each["payload"] for each in call.sent] for call in run.calls] == [
        [1200, 0],
        [1200, 3000],
        [1200, 6000],
        [],
        [],
    ]
