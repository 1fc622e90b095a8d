"""The PLC's own copy of the bridge's tables, its handshake, and its link against a small bridge."""

from __future__ import annotations

from simulators.line.field_io import Edge
from simulators.plc.handshake import TriggerHandshake
from simulators.plc.tables import ControlBlock, decode_live, decode_ring, encode_control, int32

MS = 1_000_000


def test_int32_compares_counts_over_the_rollover() -> None:
    assert int32(5 - (2**32 - 5)) == 10
    assert int32(2**32 - 5 - 5) == -10
    assert int32(2**31) == -(2**31)


def test_the_live_block_is_read_where_the_contract_puts_it() -> None:
    registers = list(range(1000, 1055))

    live = decode_live(registers)

    assert (live.status, live.heartbeat) == (1000, 1001)
    assert live.newest.sequence == 1002 << 16 | 1003
    assert (live.newest.verdict, live.newest.disposition, live.newest.label_id) == (1004, 1005, 1006)
    assert live.newest.flags == 1009
    assert live.newest.open_count == 1010 << 16 | 1011
    assert live.newest.close_count == 1044 << 16 | 1045
    assert live.written == 1038 << 16 | 1039
    assert live.counters["triggers"] == 1016 << 16 | 1017
    assert live.counters["gate_missed"] == 1030 << 16 | 1031


def test_empty_ring_slots_are_told_by_their_verdict_not_by_their_sequence() -> None:
    registers = [0] * 224
    registers[0:14] = [0, 0, 2, 2, 1, 9000, 0, 100, 0, 200, 0, 0, 108, 5]
    registers[14:16] = [0, 17]

    results = decode_ring(registers)

    assert [(r.sequence, r.verdict, r.open_count, r.close_count) for r in results] == [(0, 2, 100, 200)]
    assert results[0].has_order


def test_the_control_block_fills_sixteen_registers() -> None:
    block = ControlBlock(
        heartbeat=65537, encoder_count=2**32 - 1, speed_mm_s=1200.0, confirmed=3, fired=4, trigger=True,
        sequence=70000, latched_count=65536,
    )  # fmt: skip

    assert encode_control(block) == [3, 1, 1, 4464, 65535, 65535, 1200, 0, 0, 3, 0, 65535, 1, 0, 0, 4]
    assert encode_control(ControlBlock(heartbeat=0, encoder_count=0, speed_mm_s=None))[6] == 65535


def test_the_handshake_tells_parts_one_after_the_other() -> None:
    handshake = TriggerHandshake()
    first, second = Edge(sequence=1, count=10), Edge(sequence=2, count=20)
    handshake.take(first, 0)
    handshake.take(second, 0)

    assert handshake.step(10 * MS, ready=True, acknowledged=False).edge == first
    assert handshake.step(20 * MS, ready=True, acknowledged=False).trigger
    assert not handshake.step(30 * MS, ready=True, acknowledged=True).trigger
    assert not handshake.step(40 * MS, ready=True, acknowledged=True).trigger
    assert not handshake.step(50 * MS, ready=True, acknowledged=False).trigger
    request = handshake.step(60 * MS, ready=True, acknowledged=False)
    assert (request.trigger, request.edge) == (True, second)
    assert handshake.given_up == 0


def test_the_handshake_waits_for_ready_but_not_for_ever() -> None:
    handshake = TriggerHandshake()
    handshake.take(Edge(sequence=1, count=10), 0)

    assert not handshake.step(100 * MS, ready=False, acknowledged=False).trigger
    assert handshake.step(250 * MS, ready=False, acknowledged=False).trigger
    assert not handshake.step(1300 * MS, ready=False, acknowledged=False).trigger
    assert handshake.given_up == 1
