"""Every register of the map through mbpoll, which is libmodbus, in both word orders, beside values written by hand.

The addresses come from the tables in the code, so that one that is added must be written down here too; what stands there
is worked out from the outcome in `tests.outputs.samples` by hand, with no help of the encoder.
"""

from __future__ import annotations

import asyncio
import ctypes
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.control_block import CONTROL_REGISTERS
from bridge.outputs.plc.register_map import DISCRETE_SIZE, INPUT_REGISTERS, INPUT_SIZE, RING_BASE, SLOT_FIELDS
from bridge.outputs.plc.words import WordOrder
from tests.outputs.samples import READY, outcome
from tests.wire.mbpoll import Told, needs_mbpoll, over_tcp
from tests.wire.modbus_bench import Bench

pytestmark = needs_mbpoll
MODBUS_ENOBASE = 112_345_678

# Part 123,456 (FAIL, "crack" 0.93) triggered at 5,000 ms on the bridge clock, decided at 5,006, fully open at 5,481 for
# 108.33 ms; read at 5,010. Part 123,457 (PASS) before it in slot 1. Open lead 40 ms.
STATUS: dict[str, int] = {
    "StatusBits": 1 + 2 + 16 + 256 + 8_192,  # Online, Ready, ResultValid, RecipeOk, ClockOk
    "Heartbeat": 4_465,  # 70,001 - 65,536
    "ResultSequence": 123_456,
    "Verdict": 2,
    "Disposition": 2,
    "LabelId": 2,
    "Score": 9_300,
    "Latency": 60,
    "Flags": 1 + 4 + 8,  # OrderValid, CountsValid, TimeValid
    "OpenCount": 462_639,
    "MsUntilOpen": 471,
    "WindowMs": 108,
    "RecipeNumber": 7,
    "Triggers": 100_000,
    "Pass": 70_000,
    "Fail": 20_000,
    "Uncertain": 5_000,
    "Error": 3_000,
    "Late": 1_999,
    "MissedTriggers": 11,
    "GateMissed": 14,
    "GateConfirmed": 15,
    "ErrorCode": 24,
    "BeltSpeed": 1_200,
    "ResultSequenceFirst": 123_456,
    "ResultsWritten": 2,
    "ClockMs": 5_010,
    "OpenAtMs": 5_481,
    "CloseCount": 463_939,
    "OpenLeadMs": 40,
    "CloseLeadMs": 0,
    "GateFired": 13,
    "DuplicateTriggers": 12,
    "AcceptedSequence": 123_457,
    "FiringError": -4,
}
SLOTS: dict[int, dict[str, int]] = {
    0: {
        "Sequence": 123_456, "Verdict": 2, "Disposition": 2, "LabelId": 2, "Score": 9_300, "OpenCount": 462_639,
        "CloseCount": 463_939, "OpenAtMs": 5_481, "WindowMs": 108, "Flags": 13,
    },
    1: {
        "Sequence": 123_457, "Verdict": 1, "Disposition": 1, "LabelId": 2, "Score": 9_300, "OpenCount": 0,
        "CloseCount": 0, "OpenAtMs": 0, "WindowMs": 65_535, "Flags": 0,
    },
}  # fmt: skip
BLOCK: dict[str, int] = {
    "heartbeat": 40_000,
    "trigger_sequence": 123_458,
    "encoder_count": 4_000_000_000,
    "belt_speed": 1_250,
    "recipe_number": 12,
    "reject_confirm": 70_001,
    "inhibit": 0,
    "trigger_age_ms": 17,
    "trigger_encoder": 3_999_999_999,
    "gate_fired": 65_537,
}
DISCRETE = {0, 1, 4, 8, 13, 17, 19}  # the status bits above, then Reject and Fail
ORDERS: tuple[WordOrder, ...] = ("high_first", "low_first")


@pytest_asyncio.fixture(params=ORDERS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    running = await Bench().start(word_order=request.param, stations=2)
    running.panels[0].show(READY, now_ns=running.now_ns)
    running.panels[0].publish(outcome(123_457, code=VerdictCode.PASS))
    running.panels[0].publish(outcome())
    yield running
    await running.stop()


def big_endian(bench: Bench) -> tuple[str, ...]:
    return ("-B",) if bench.panels[0].word_order == "high_first" else ()


async def number(bench: Bench, table: str, address: int, kind: str) -> int:
    """Read one entry as a PLC would: a pair of words by mbpoll's own 32-bit type."""
    wide = kind == "u32"
    told = await over_tcp(
        bench.port, "-t", f"{table}:int" if wide else table, *(big_endian(bench) if wide else ()), "-r", address
    )
    assert told.code == 0, told.text
    value = told.values[address]
    if kind == "i16":
        return (value + 32_768) % 65_536 - 32_768
    return value % 2**32 if wide else value % 65_536


@pytest.mark.parametrize(("table", "offset"), [("3", 0), ("4", 1_000)])
async def test_every_entry_of_the_map_and_of_its_mirror(bench: Bench, table: str, offset: int) -> None:
    assert {each.name for each in INPUT_REGISTERS} == set(STATUS)
    seen = {each.name: await number(bench, table, offset + each.address, each.kind) for each in INPUT_REGISTERS}
    assert seen == STATUS


@pytest.mark.parametrize("slot", sorted(SLOTS))
async def test_every_entry_of_a_ring_slot(bench: Bench, slot: int) -> None:
    base = RING_BASE + 14 * slot
    seen = {each.name: await number(bench, "3", base + each.offset, each.kind) for each in SLOT_FIELDS}
    assert seen == SLOTS[slot]


async def test_every_address_word_by_word(bench: Bench) -> None:
    """All 324 addresses: what is no entry above reads 0, and the mirror says the same."""
    expected = [0] * INPUT_SIZE
    high = bench.panels[0].word_order == "high_first"
    places = [(each.address, each.kind, STATUS[each.name]) for each in INPUT_REGISTERS]
    for slot, fields in SLOTS.items():
        places += [(RING_BASE + 14 * slot + each.offset, each.kind, fields[each.name]) for each in SLOT_FIELDS]
    for address, kind, value in places:
        if kind == "u32":
            pair = [value // 65_536, value % 65_536]
            expected[address : address + 2] = pair if high else pair[::-1]
        else:
            expected[address] = value % 65_536
    for table, offset in (("3", 0), ("4", 1_000)):
        words: dict[int, int] = {}
        for start, count in ((0, 100), (100, 112), (212, 112)):
            told = await over_tcp(bench.port, "-t", table, "-r", offset + start, "-c", count)
            assert told.code == 0, told.text
            words |= told.values
        assert [words[offset + at] % 65_536 for at in range(INPUT_SIZE)] == expected


async def test_discrete_inputs_and_the_coil_of_the_gate(bench: Bench) -> None:
    told = await over_tcp(bench.port, "-t", "1", "-r", 0, "-c", DISCRETE_SIZE)
    assert told.values == {at: int(at in DISCRETE) for at in range(DISCRETE_SIZE)}
    assert (await over_tcp(bench.port, "-t", "0", "-r", 0)).values == {0: 0}
    assert (await over_tcp(bench.port, "-t", "0", "-r", 100, "-c", 16)).values == {
        at: int(at == 100) for at in range(100, 116)
    }


async def test_every_register_of_the_control_block_is_written_and_read_back(bench: Bench) -> None:
    assert {each.key for each in CONTROL_REGISTERS} == set(BLOCK)
    for each in CONTROL_REGISTERS:
        assert each.address is not None
        wide = each.kind == "u32"
        arguments = ("-t", "4:int", *big_endian(bench)) if wide else ("-t", "4")
        told = await over_tcp(bench.port, *arguments, "-r", each.address, values=(BLOCK[each.key],))
        assert told.code == 0, told.text
    seen = {each.key: await number(bench, "4", each.address or 0, each.kind) for each in CONTROL_REGISTERS}
    assert seen == BLOCK
    sent = {type(each).__name__: each for each in bench.posted}
    assert (sent["PlcBeat"].value, sent["SpeedSample"].mm_s) == (40_000, 1_250.0)  # type: ignore[union-attr]
    assert sent["EncoderSample"].counts == 4_000_000_000  # type: ignore[union-attr]
    assert {70_001, 65_537} <= {
        number
        for each in bench.posted
        for number in (getattr(each, "reject_confirm", 0), getattr(each, "gate_fired", 0))
    }


def refusal(told: Told) -> str:
    found = re.search(r"failed(?:\(-?\d+\))?: (.*)", told.text)
    return found[1] if found else told.text


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (("-t", "3", "-r", 324), ()), (("-t", "3", "-r", 300, "-c", 25), ()), (("-t", "4", "-r", 16), ()),
        (("-t", "4", "-r", 999), ()), (("-t", "4", "-r", 1_324), ()), (("-t", "1", "-r", 20), ()),
        (("-t", "0", "-r", 1), ()), (("-t", "0", "-r", 116), ()),
        (("-t", "4", "-r", 16), (1,)), (("-t", "4", "-r", 15), (1, 2)), (("-t", "4", "-r", 1_000), (1,)),
        (("-t", "4", "-r", 1_004), (1, 1)), (("-t", "4", "-r", 65_535), (1,)), (("-t", "0", "-r", 0), (1,)),
        (("-t", "0", "-r", 99), (1, 1)), (("-t", "0", "-r", 116), (1,)),
    ],
)  # fmt: skip
async def test_outside_of_the_map_and_a_write_outside_of_the_block_is_exception_02(
    bench: Bench, arguments: tuple[object, ...], values: tuple[int, ...]
) -> None:
    told = await over_tcp(bench.port, *arguments, values=values)
    assert refusal(told) == "Illegal data address"
    assert bench.posted == []
    assert (await over_tcp(bench.port, "-t", "4", "-r", 0)).values == {0: 1}


def ask_raw(port: int, pdu: bytes, unit: int) -> str:
    """Send what mbpoll has no option for through its library, libmodbus; gives its words for the exception."""
    library = ctypes.CDLL("libmodbus.so.5", use_errno=True)
    library.modbus_new_tcp.restype = ctypes.c_void_p
    library.modbus_strerror.restype = ctypes.c_char_p
    context = ctypes.c_void_p(library.modbus_new_tcp(b"127.0.0.1", port))
    try:
        assert library.modbus_connect(context) == 0
        request = bytes([unit]) + pdu
        assert library.modbus_send_raw_request(context, request, len(request)) > 0
        answer = ctypes.create_string_buffer(260)
        length = library.modbus_receive_confirmation(context, answer)
        assert length == 9, "no exception"
        assert answer.raw[7] == pdu[0] | 0x80
        return str(library.modbus_strerror(MODBUS_ENOBASE + answer.raw[8]).decode())
    finally:
        library.modbus_close(context)
        library.modbus_free(context)


@pytest.mark.parametrize(
    ("pdu", "unit", "words"),
    [
        (b"\x07", 1, "Illegal function"), (b"\x11", 1, "Illegal function"), (b"\x03\x00\x10\x00\x01", 1, "Illegal data address"),
        (b"\x03\x00\x00\x00\x7e", 1, "Illegal data value"), (b"\x04\x00\x00\x07\xd0", 1, "Illegal data value"),
        (b"\x04\x00\x00\x00\x00", 1, "Illegal data value"), (b"\x05\x00\x64\x12\x34", 1, "Illegal data value"),
        (b"\x10\x00\x00\x00\x02\x02\x00\x00", 1, "Illegal data value"),
        (b"\x04\x00\x00\x00\x01", 9, "Target device failed to respond"),
    ],
)  # fmt: skip
async def test_every_exception_through_libmodbus(bench: Bench, pdu: bytes, unit: int, words: str) -> None:
    assert await asyncio.to_thread(ask_raw, bench.port, pdu, unit) == words
    assert bench.posted == []


async def test_an_unknown_unit_is_exception_0b_and_the_second_station_has_its_own_registers(bench: Bench) -> None:
    told = await over_tcp(bench.port, "-t", "3", "-r", 0, unit=3)
    assert refusal(told) == "Target device failed to respond"
    for unit, verdict in ((0, 2), (1, 2), (255, 2), (2, 0)):
        assert (await over_tcp(bench.port, "-t", "3", "-r", 4, unit=unit)).values == {4: verdict}
