"""A PLC at the Modbus server: what it writes reaches the station, and both handshakes of the contract."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bridge.domain.messages import (
    Arrival,
    Command,
    EncoderSample,
    Inhibit,
    PlcBeat,
    PlcCounts,
    PlcEnable,
    SpeedSample,
)
from bridge.domain.part import Trigger
from tests.outputs.samples import READY, outcome, status
from tests.wire.modbus_bench import Bench, RawClient, write_registers

ENABLE, TRIGGER, RESULT_ACK, CLEAR_ERROR, RECIPE_CHANGE, RESET = (1 << bit for bit in range(6))
READY_BIT, TRIGGER_ACK, RESULT_VALID, MISSED, OVERRUN = (1 << bit for bit in (1, 2, 4, 5, 6))


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    running = await Bench().start()
    running.panels[0].show(READY, now_ns=running.now_ns)
    yield running
    await running.stop()


@pytest_asyncio.fixture
async def plc(bench: Bench) -> AsyncIterator[RawClient]:
    connected = await RawClient.connect(bench.port)
    yield connected
    connected.close()


async def put(plc: RawClient, address: int, *values: int) -> None:
    assert (await plc.ask(write_registers(address, values)))[0] == 16


async def bits(plc: RawClient) -> int:
    return (await plc.registers(4, 0, 1))[0]


def triggers(bench: Bench) -> list[Trigger]:
    return [each.trigger for each in bench.posted if isinstance(each, Arrival)]


async def test_the_block_starts_with_enable_on_and_no_speed(plc: RawClient) -> None:
    assert await plc.registers(3, 0, 16) == [1, 0, 0, 0, 0, 0, 65_535] + [0] * 9


async def test_a_whole_block_becomes_messages_once(bench: Bench, plc: RawClient) -> None:
    block = [ENABLE, 5, 0, 0, 6, 63_573, 1_200, 0, 0, 3, 0b101, 65_535, 0, 0, 0, 4]
    await put(plc, 0, *block)
    now = bench.now_ns
    assert bench.posted == [
        EncoderSample(counts=456_789, at_ns=now, origin="plc"),
        SpeedSample(mm_s=1_200.0, at_ns=now, origin="plc"),
        PlcBeat(value=5, at_ns=now),
        Inhibit(bits=0b101),
        PlcCounts(origin="modbus", reject_confirm=3, gate_fired=4),
    ]
    bench.posted.clear()
    await put(plc, 0, *block)
    assert [type(each) for each in bench.posted] == [EncoderSample, SpeedSample], (
        "samples are fresh, the rest unchanged"
    )
    assert await plc.registers(3, 0, 16) == block


async def test_half_an_encoder_count_is_no_sample(bench: Bench, plc: RawClient) -> None:
    await put(plc, 4, 6)
    assert bench.posted == []
    await put(plc, 5, 63_573)
    assert [each.counts for each in bench.posted if isinstance(each, EncoderSample)] == [456_789]


async def test_speed_65535_is_not_supplied_and_0_is_stopped(bench: Bench, plc: RawClient) -> None:
    await put(plc, 6, 65_535)
    assert bench.posted == []
    await put(plc, 6, 0)
    assert bench.posted == [SpeedSample(mm_s=0.0, at_ns=bench.now_ns, origin="plc")]


async def test_bits_act_on_a_change_only(bench: Bench, plc: RawClient) -> None:
    await put(plc, 7, 12)
    all_bits = ENABLE | CLEAR_ERROR | RECIPE_CHANGE | RESET
    for word in (all_bits, all_bits, ENABLE, 0, 0, ENABLE):
        await put(plc, 0, word)
    assert bench.posted == [
        Command(name="clear-error", origin="modbus"),
        Command(name="reset-counters", origin="modbus"),
        Command(name="select-recipe", origin="modbus", recipe_number=12),
        PlcEnable(enabled=False),
        PlcEnable(enabled=True),
    ]


async def test_coils_are_the_same_bits(bench: Bench, plc: RawClient) -> None:
    assert (await plc.ask(b"\x05\x00\x64\x00\x00"))[0] == 5
    assert bench.posted == [PlcEnable(enabled=False)]
    assert await plc.registers(3, 0, 1) == [0]
    assert (await plc.ask(b"\x0f\x00\x64\x00\x06\x01\x21"))[0] == 15
    assert bench.posted[1:] == [Command(name="reset-counters", origin="modbus"), PlcEnable(enabled=True)]
    assert await plc.registers(3, 0, 1) == [ENABLE | RESET]


async def test_one_request_raises_a_trigger_and_the_handshake_runs_down(bench: Bench, plc: RawClient) -> None:
    assert await bits(plc) & READY_BIT
    await put(plc, 0, ENABLE | TRIGGER, 0, 1, 57_920, 0, 0, 65_535, 0, 0, 0, 0, 12, 6, 63_573)
    assert triggers(bench) == [
        Trigger(
            sequence=123_456,
            part_id="123456",
            arrived_ns=bench.now_ns,
            encoder_counts=456_789,
            age_ms=12.0,
            source="modbus",
        )
    ]
    assert await bits(plc) & TRIGGER_ACK
    assert await plc.registers(4, 52, 2) == [1, 57_920], "the last accepted sequence is there with TriggerAck"
    await put(plc, 0, ENABLE | TRIGGER)
    assert len(triggers(bench)) == 1
    await put(plc, 0, ENABLE)
    assert not await bits(plc) & TRIGGER_ACK


async def test_a_latched_count_serves_one_trigger_and_an_unknown_age_is_none(bench: Bench, plc: RawClient) -> None:
    await put(plc, 11, 65_535, 0, 777)
    for sequence in (1, 2):
        await put(plc, 2, 0, sequence)
        await put(plc, 0, ENABLE | TRIGGER)
        await put(plc, 0, ENABLE)
    assert [(each.sequence, each.encoder_counts, each.age_ms) for each in triggers(bench)] == [
        (1, 777, None),
        (2, None, None),
    ]


async def test_a_block_that_never_held_a_latched_count_supplies_none(bench: Bench, plc: RawClient) -> None:
    await put(plc, 0, ENABLE | TRIGGER, *[0] * 15)
    assert [each.encoder_counts for each in triggers(bench)] == [None]


async def test_a_trigger_while_not_ready_gets_an_error_part_and_missed_trigger(bench: Bench, plc: RawClient) -> None:
    bench.panels[0].show(status(ready=False, heartbeat=1), now_ns=bench.now_ns)
    await put(plc, 0, ENABLE | TRIGGER, 0, 0, 9)
    assert [(each.sequence, each.problem) for each in triggers(bench)] == [(9, "trigger while not ready")]
    assert await bits(plc) & (MISSED | TRIGGER_ACK) == MISSED
    bench.panels[0].show(READY, now_ns=bench.now_ns)
    await put(plc, 0, ENABLE)
    assert await bits(plc) & MISSED
    await put(plc, 0, ENABLE | CLEAR_ERROR)
    assert not await bits(plc) & MISSED


async def test_a_trigger_that_stands_over_a_reconnection_is_no_edge(bench: Bench, plc: RawClient) -> None:
    await put(plc, 0, ENABLE | TRIGGER, 1, 0, 9)
    plc.close()
    again = await RawClient.connect(bench.port)
    await put(again, 0, ENABLE | TRIGGER, 2, 0, 9)
    assert len(triggers(bench)) == 1
    again.close()


async def test_a_trigger_raised_while_a_beating_plc_was_away_is_no_edge(bench: Bench, plc: RawClient) -> None:
    await put(plc, 0, ENABLE, 1)
    plc.close()
    await plc.writer.wait_closed()
    again = await RawClient.connect(bench.port)
    for _ in range(200):
        if not bench.stations.has_client_that_wrote(0):
            break
        await asyncio.sleep(0.01)
    await put(again, 0, ENABLE | TRIGGER, 2, 0, 9)
    assert triggers(bench) == []
    await put(again, 0, ENABLE, 3, 0, 9)
    await put(again, 0, ENABLE | TRIGGER, 4, 0, 9)
    assert [each.sequence for each in triggers(bench)] == [9]
    again.close()


async def test_a_client_with_a_connection_for_each_request_can_trigger(bench: Bench) -> None:
    for sequence in (1, 2, 3):
        for word in (ENABLE | TRIGGER, ENABLE):
            one_shot = await RawClient.connect(bench.port)
            await put(one_shot, 0, word, 0, 0, sequence)
            one_shot.close()
            await one_shot.writer.wait_closed()
    assert [each.sequence for each in triggers(bench)] == [1, 2, 3]


async def test_results_wait_for_their_acknowledgement_and_the_ring_does_not() -> None:
    bench = await Bench().start(result_ack=True)
    panel = bench.panels[0]
    panel.show(READY, now_ns=bench.now_ns)
    plc = await RawClient.connect(bench.port)
    for sequence in (1, 2, 3):
        panel.publish(outcome(sequence))
    assert (await plc.registers(4, 38, 2))[1] == 3
    assert [(await plc.registers(4, 100 + 14 * n, 2))[1] for n in (1, 2, 3)] == [1, 2, 3]
    for sequence in (1, 2, 3):
        words = await plc.registers(4, 0, 6)
        assert (words[0] & RESULT_VALID, words[3], words[4]) == (RESULT_VALID, sequence, 2)
        await put(plc, 0, ENABLE | RESULT_ACK)
        words = await plc.registers(4, 0, 6)
        assert (words[0] & RESULT_VALID, words[4], words[5]) == (0, 0, 0)
        await put(plc, 0, ENABLE)
    assert not await bits(plc) & (RESULT_VALID | OVERRUN)
    for sequence in range(4, 4 + 18):
        panel.publish(outcome(sequence))
    assert await bits(plc) & OVERRUN
    plc.close()
    await bench.stop()


@pytest.mark.skipif(shutil.which("mbpoll") is None, reason="mbpoll (Debian package) is not installed")
async def test_mbpoll_reads_a_result_and_writes_the_control_block(bench: Bench) -> None:
    bench.panels[0].publish(outcome())

    async def mbpoll(*arguments: str) -> tuple[int, str]:
        call = await asyncio.create_subprocess_exec(
            "mbpoll",
            "-m",
            "tcp",
            "-p",
            str(bench.port),
            "-a",
            "1",
            "-0",
            "-1",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await call.communicate()
        return call.returncode or 0, out.decode()

    code, text = await mbpoll("-t", "3", "-r", "0", "-c", "38", "127.0.0.1")
    words = {int(at): int(value) for at, value in re.findall(r"\[(\d+)\]:\s+(\d+)", text)}
    assert code == 0
    assert sorted(words) == list(range(38))
    assert (words[3], words[4], words[5], words[7], words[37]) == (57_920, 2, 2, 9_300, 57_920)
    code, text = await mbpoll("-t", "3:int", "-B", "-r", "2", "-c", "1", "127.0.0.1")
    assert (code, re.findall(r"\[2\]:\s+(\d+)", text)) == (0, ["123456"])
    code, _ = await mbpoll("-t", "4", "-r", "2", "127.0.0.1", "0", "77")
    assert code == 0
    code, _ = await mbpoll("-t", "0", "-r", "101", "127.0.0.1", "1")
    assert code == 0
    assert [(each.sequence, each.part_id) for each in triggers(bench)] == [(77, "77")]
    code, _ = await mbpoll("-t", "4", "-r", "16", "127.0.0.1", "1")
    assert code != 0
