"""The bridge as the client of a PLC that is a Modbus server: what stands in its registers, and what a loss does to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pymodbus.constants import ExcCodes

from bridge.domain.messages import Arrival, Command, EncoderSample, PlcBeat, PlcEnable, SpeedSample
from bridge.domain.verdict import VerdictCode
from bridge.outputs.modbus.client import ModbusClientSettings
from bridge.outputs.plc.register_map import slot_address
from tests.outputs.samples import READY
from tests.wire.client_bench import ClientBench, client_bench
from tests.wire.plc_twin import PlcTwin

VALID, MISSED, COUNTS, TIME = 1, 2, 4, 8
HIGH_SPEED = {400: 0b11, 401: 5, 402: 0, 403: 77, 404: 6, 405: 63_573, 406: 1200, 411: 3, 412: 6, 413: 60_000}


def settings(twin: PlcTwin, **changes: object) -> ModbusClientSettings:
    quick = ModbusClientSettings(host="127.0.0.1", port=twin.port, timeout_s=0.4, read_s=0.02, write_s=0.05)
    return replace(quick, **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def joined(**changes: object) -> AsyncIterator[tuple[PlcTwin, ClientBench]]:
    """Run a PLC and a client that writes into it."""
    twin = PlcTwin()
    await twin.start()
    try:
        async with client_bench(settings(twin, **changes)) as bench:
            await twin.until(lambda: ("modbus_client", "up") in bench.links())
            yield twin, bench
    finally:
        await twin.stop()


def u32(words: Sequence[int]) -> int:
    return words[0] << 16 | words[1]


async def test_a_verdict_stands_in_the_plcs_own_registers() -> None:
    async with joined(address=100, control_address=40) as (twin, bench):
        open_ns = bench.publish(123_456)
        await twin.until(lambda: u32(twin.words(138, 2)) == 1)
        words = twin.words(100, 324)
    assert words[2:6] == [1, 57_920, 2, 2]
    assert words[36:38] == [1, 57_920]
    assert words[9] == VALID | COUNTS | TIME
    assert u32(words[10:12]) == 462_639
    assert u32(words[42:44]) == round(open_ns / 1e6)
    # What the request's moment fills in: the clock, and from it the time until the gate must be open.
    assert words[12] == pytest.approx(u32(words[42:44]) - u32(words[40:42]), abs=2)
    start = slot_address(123_456)
    assert words[start : start + 3] == [1, 57_920, 2]


async def test_the_clock_goes_on_without_news() -> None:
    async with joined() as (twin, _):
        before = u32(twin.words(40, 2))
        await asyncio.sleep(0.3)
        now_ms = time.monotonic_ns() // 1_000_000
        assert u32(twin.words(40, 2)) - before >= 150
        assert now_ms - u32(twin.words(40, 2)) < 150


async def test_slots_go_before_the_status_and_the_sequence_is_read_back() -> None:
    async with joined() as (twin, bench):
        twin.writes.clear()
        twin.reads.clear()
        bench.publish(7)
        await twin.until(lambda: (2, 2) in twin.reads)
        addresses = [address for address, words in twin.writes if address != 0 or words[3] == 7]
        assert addresses[:2] == [slot_address(7), 0]


async def test_a_plc_that_takes_few_registers_gets_them_in_the_contracts_order() -> None:
    async with joined(max_registers=30) as (twin, bench):
        await asyncio.sleep(0.1)
        twin.writes.clear()
        bench.publish(7)
        await twin.until(lambda: twin.words(3) == [7])
        first = next(n for n, (address, _) in enumerate(twin.writes) if address == slot_address(7))
        at = [address for address, _ in twin.writes[first:]]
    assert all(len(words) <= 30 for _, words in twin.writes)
    assert at[:6] == [slot_address(7), 36, 4, 34, 0, 36] or at[:5] == [slot_address(7), 36, 4, 34, 0]


async def test_sixteen_results_in_a_burst_are_all_in_the_ring() -> None:
    async with joined() as (twin, bench):
        twin.delay_s = 0.02
        for sequence in range(1, 17):
            bench.publish(sequence)
        await twin.until(lambda: u32(twin.words(38, 2)) == 16)
        assert [u32(twin.words(slot_address(n), 2)) for n in range(1, 17)] == list(range(1, 17))
        status = [words[3] for address, words in twin.writes if address == 0 and words[3]]
    assert len(set(status)) < 16, "what was overtaken is dropped from 0 to 54"
    assert bench.undelivered() == []


async def test_a_stream_of_results_never_starves_the_status() -> None:
    async with joined(timeout_s=2.0) as (twin, bench):
        twin.delay_s = 0.02
        twin.writes.clear()
        for sequence in range(1, 61):
            bench.publish(sequence)
            await asyncio.sleep(0.01)
        announced = [(n, words[3]) for n, (address, words) in enumerate(twin.writes) if address == 0 and words[4]]
        assert len(announced) >= 4
        for n, sequence in announced:
            slots = [address for address, _ in twin.writes[:n]]
            at = slot_address(sequence)
            assert any(start <= at < start + 123 for start in slots if start >= 100), "its slot came before"


async def test_the_plcs_own_block_reaches_the_station() -> None:
    async with joined() as (twin, bench):
        await twin.until(lambda: PlcEnable(enabled=False) in bench.posted)
        await twin.put({400: 1, 401: 9, 404: 6, 405: 63_573, 406: 1200})
        await twin.until(lambda: bench.told(PlcBeat) and bench.told(SpeedSample) and bench.told(PlcEnable)[-1].enabled)
        await twin.until(lambda: bench.told(EncoderSample)[-1].counts == 456_789)
        assert (bench.told(PlcBeat)[-1].value, bench.told(SpeedSample)[-1].mm_s) == (9, 1200.0)
        assert abs(time.monotonic_ns() - bench.told(EncoderSample)[-1].at_ns) < 200_000_000


async def test_a_trigger_by_handshake_is_taken_and_acknowledged_in_the_plcs_registers() -> None:
    async with joined() as (twin, bench):
        await twin.until(lambda: twin.reads.count((400, 16)) > 1)
        await twin.put(HIGH_SPEED)
        await twin.until(lambda: twin.words(0)[0] & 0b100)
        (arrival,) = bench.told(Arrival)
        assert (arrival.trigger.sequence, arrival.trigger.age_ms, arrival.trigger.source) == (77, 3.0, "modbus")
        assert arrival.trigger.encoder_counts == 453_216
        assert u32(twin.words(52, 2)) == 77
        await twin.put({400: 1})
        await twin.until(lambda: not twin.words(0)[0] & 0b100)
        assert len(bench.told(Arrival)) == 1


async def test_what_stands_at_the_first_sight_is_no_edge_and_no_life() -> None:
    twin = PlcTwin()
    twin.preset = {400: 0b101011, 401: 1234, 403: 77}
    await twin.start()
    async with client_bench(settings(twin)) as bench:
        await twin.until(lambda: twin.reads.count((400, 16)) > 3)
        assert (bench.told(Arrival), bench.told(Command), bench.told(PlcBeat)) == ([], [], [])
        await twin.put({400: 1})
        await asyncio.sleep(0.1)
        await twin.put({400: 0b1011, 401: 1235})
        await twin.until(lambda: bench.told(Arrival) and bench.told(Command) and bench.told(PlcBeat))
        assert [each.name for each in bench.told(Command)] == ["clear-error"]
    await twin.stop()


@pytest.mark.parametrize("again_s", [0.0, 0.7])
async def test_after_a_loss_no_old_order_is_valid(again_s: float) -> None:
    twin = PlcTwin()
    await twin.start()
    async with client_bench(settings(twin)) as bench:
        await twin.until(lambda: bench.links() == [("modbus_client", "up")])
        bench.publish(1, due_in_ms=150)
        await twin.until(lambda: u32(twin.words(38, 2)) == 1)
        assert twin.words(9) == [VALID | COUNTS | TIME]
        await twin.stop()
        await twin.until(lambda: bench.links()[-1] == ("modbus_client", "lost"))
        bench.publish(2, due_in_ms=100)
        bench.publish(3, due_in_ms=60_000)
        await asyncio.sleep(0.2 + again_s)
        twin.writes.clear()
        await twin.start()
        await twin.until(lambda: bench.links()[-1] == ("modbus_client", "up"))
        for address, words in twin.writes:
            check_flags(address, words)
        assert bench.undelivered() == [2], "1 had come, 3 still can"
        assert bench.clients.reconnects == {"modbus_client": 1}
        assert twin.words(9) == [VALID | COUNTS | TIME], "the newest one can be met"
    await twin.stop()


def check_flags(address: int, words: Sequence[int]) -> None:
    """See that no request after the loss bore an order of 1 or 2 as valid."""
    flags = {1: MISSED | COUNTS, 2: MISSED | COUNTS, 3: VALID | COUNTS | TIME}
    if address == 0 and words[4]:
        assert words[9] == flags[words[3]]
    for start in range(100, 324, 14):
        at = start - address
        if address >= 100 and 0 <= at < len(words) and words[at + 2]:
            assert words[at + 13] == flags[words[at + 1]], "in its slot"


async def test_a_plc_too_slow_for_the_order_is_told_not_to_fire() -> None:
    async with joined(timeout_s=2.0) as (twin, bench):
        twin.delay_s = 0.15
        bench.publish(1, due_in_ms=100)
        twin.delay_s = 0.15
        await bench.until(lambda: bench.undelivered() == [1])
        twin.delay_s = 0.0
        await twin.until(lambda: twin.words(9) == [MISSED | COUNTS])
        start = slot_address(1)
        assert twin.words(start + 13) == [MISSED | COUNTS]


async def test_a_plc_that_accepts_and_never_answers_hangs_nothing() -> None:
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    deaf = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = deaf.sockets[0].getsockname()[1]
    twin = PlcTwin()
    await twin.start()
    mute = ModbusClientSettings(host="127.0.0.1", port=port, timeout_s=0.2)
    async with client_bench(mute) as bench, client_bench(settings(twin), station="station2") as other:
        await bench.until(lambda: bench.links() == [("modbus_client", "lost")])
        assert "no answer within 0.2 s" in bench.reason()
        await bench.until(lambda: len(held) >= 3)
        begun = time.monotonic()
        other.publish(5)
        await twin.until(lambda: twin.words(3) == [5])
        assert time.monotonic() - begun < 0.2, "the other PLC does not wait for it"
        begun = time.monotonic()
    assert time.monotonic() - begun < 1.5, "the end does not wait for it either"
    assert bench.links() == [("modbus_client", "lost")], "told once"
    for writer in held:
        writer.close()
    deaf.close()
    await twin.stop()


async def test_a_lost_connection_is_reset_so_that_nothing_is_still_on_its_way_when_a_plc_comes_back() -> None:
    """Closed in good order, a connection would go on sending what it holds for as long as the system cares to try."""
    ends: list[str] = []

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(4096):
                pass
            ends.append("closed")
        except ConnectionResetError:
            ends.append("reset")
        writer.close()

    mute = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    async with client_bench(ModbusClientSettings(host="127.0.0.1", port=port, timeout_s=0.2)) as bench:
        await bench.until(lambda: len(ends) >= 2)
    assert set(ends) == {"reset"}
    mute.close()


@pytest.mark.parametrize(
    ("code", "named"),
    [(ExcCodes.DEVICE_BUSY, "exception 6"), (ExcCodes.ILLEGAL_ADDRESS, "exception 2 (illegal address)")],
)
async def test_an_exception_is_an_alarm_of_its_own_and_passes(code: ExcCodes, named: str) -> None:
    async with joined() as (twin, bench):
        twin.refuses = code
        await twin.until(lambda: bench.links()[-1] == ("modbus_client", "refused"))
        assert named in bench.reason()
        assert f"127.0.0.1:{twin.port}" in bench.reason()
        bench.publish(3)
        twin.refuses = None
        await twin.until(lambda: bench.links()[-1] == ("modbus_client", "up"))
        assert twin.words(3) == [3]
        assert bench.links() == [("modbus_client", state) for state in ("up", "refused", "up")]


async def test_too_few_registers_in_the_plc_are_named() -> None:
    twin = PlcTwin()
    twin.limit = 200
    await twin.start()
    async with client_bench(settings(twin)) as bench:
        await bench.until(lambda: bench.links() == [("modbus_client", "refused")])
        assert "writing registers 100 to 211: exception 2" in bench.reason()
    await twin.stop()


async def test_a_plc_that_can_be_written_and_not_read_is_told_of_once() -> None:
    twin = PlcTwin()
    twin.limit = 380
    await twin.start()
    async with client_bench(settings(twin)) as bench:
        await twin.until(lambda: sum(address == 0 for address, _ in twin.writes) >= 3)
        assert bench.links() == [("modbus_client", "refused")]
        assert "reading registers 400 to 415: exception 2" in bench.reason()
    await twin.stop()


async def test_registers_that_do_not_keep_what_was_written_are_an_alarm() -> None:
    async with joined() as (twin, bench):
        twin.spoils = {3: 9}
        bench.publish(4, code=VerdictCode.PASS)
        await twin.until(lambda: bench.links()[-1] == ("modbus_client", "refused"))
        assert "registers 2 and 3 hold [0, 9] right after [0, 4] was written" in bench.reason()
        twin.spoils = {}
        await twin.until(lambda: bench.links()[-1] == ("modbus_client", "up"))


async def test_the_plc_sees_the_end() -> None:
    async with joined() as (twin, bench):
        bench.panel.show(replace(READY, online=False, ready=False), now_ns=time.monotonic_ns())
    assert twin.words(0)[0] & 0b11 == 0


async def test_a_display_is_told_of_nothing_and_keeps_nobody() -> None:
    async with joined(drives_gate=False) as (twin, bench):
        await twin.stop()
        await bench.until(lambda: bench.links()[-1] == ("modbus_client", "lost"))
        bench.publish(1, due_in_ms=30)
        await asyncio.sleep(0.2)
        assert bench.undelivered() == []
        await twin.start()
