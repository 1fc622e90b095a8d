"""The Modbus map: places, encodings, saturation, word order, and what it says without a valid result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.domain.gate import GateOrder
from bridge.domain.status import Counters
from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.register_map import (
    INPUT_REGISTERS,
    INPUT_SIZE,
    RING_BASE,
    SLOT_FIELDS,
    STATUS_SIZE,
    WRITE_ORDER,
    encode,
    encode_discrete,
    encode_slot,
    slot_address,
)
from bridge.outputs.plc.view import SLOT_SIZE, PlcView, Shown
from bridge.outputs.plc.words import join_u32, quantity, signed, split_u32
from tests.outputs.samples import MS, ORDERED, READY, result, status


def shown_as(**changes: object) -> Shown:
    judged = result(**changes)  # type: ignore[arg-type]
    return Shown(result=judged, order=judged.order, document="{}")


def view_of(shown: Shown | None, *, valid: bool = True) -> PlcView:
    return PlcView(
        status=READY, shown=shown, newest=shown, valid=valid, live=valid, written=70_000, accepted_sequence=123_457,
        open_lead_ms=40.0, close_lead_ms=45.4,
    )  # fmt: skip


def u32(words: list[int], address: int) -> int:
    return words[address] << 16 | words[address + 1]


def test_no_two_registers_overlap_and_the_table_ends_where_the_contract_ends() -> None:
    taken = [address for each in INPUT_REGISTERS for address in range(each.address, each.address + each.width)]
    assert len(taken) == len(set(taken))
    assert sorted(set(range(STATUS_SIZE)) - set(taken)) == [15]
    assert max(taken) == STATUS_SIZE - 1
    slot = [offset for each in SLOT_FIELDS for offset in range(each.offset, each.offset + each.width)]
    assert slot == list(range(SLOT_SIZE))


def test_the_write_order_covers_every_register_once() -> None:
    written = [address for span in WRITE_ORDER for address in span]
    assert sorted(written) == list(range(INPUT_SIZE))
    assert written.index(36) < written.index(4) < written.index(2)
    assert written.index(RING_BASE) < written.index(36)


def test_a_result_is_encoded_at_the_addresses_of_the_contract() -> None:
    words = encode(view_of(shown_as()), now_ns=5_010 * MS, word_order="high_first")
    assert len(words) == INPUT_SIZE
    assert words[0] == sum(1 << bit for bit in (0, 1, 4, 8, 13))
    assert words[1] == 70_001 - 65_536
    assert u32(words, 2) == u32(words, 36) == 123_456
    assert words[4:10] == [2, 2, 2, 9300, 60, 0b1101]
    assert u32(words, 10) == 462_639
    assert words[12] == 471
    assert words[13] == 108
    assert words[14:16] == [7, 0]
    assert [u32(words, at) for at in range(16, 34, 2)] == [100_000, 70_000, 20_000, 5_000, 3_000, 1_999, 11, 14, 15]
    assert words[34:36] == [24, 1200]
    assert u32(words, 38) == 70_000
    assert u32(words, 40) == 5_010
    assert u32(words, 42) == 5_481
    assert u32(words, 44) == 463_939
    assert words[46:48] == [40, 45]
    assert [u32(words, at) for at in (48, 50, 52)] == [13, 12, 123_457]
    assert words[54] == (-4 & 0xFFFF)
    assert words[55:100] == [0] * 45


def test_low_word_first_turns_every_pair_round() -> None:
    high = encode(view_of(shown_as()), now_ns=5_010 * MS, word_order="high_first")
    low = encode(view_of(shown_as()), now_ns=5_010 * MS, word_order="low_first")
    for each in INPUT_REGISTERS:
        pair = high[each.address : each.address + each.width]
        assert low[each.address : each.address + each.width] == pair[::-1], each.name


@pytest.mark.parametrize("shown", [None, shown_as(code=VerdictCode.PASS)])
def test_without_a_valid_result_nothing_reads_as_a_verdict(shown: Shown | None) -> None:
    view = view_of(shown, valid=False)
    words = encode(view, now_ns=0, word_order="high_first")
    assert words[4:6] == [0, 0]
    assert encode_discrete(view)[16:] == [False] * 4
    assert not words[0] & 1 << 4


def test_before_the_first_result_quantities_are_not_available() -> None:
    words = encode(PlcView(), now_ns=0, word_order="high_first")
    assert [words[at] for at in (7, 8, 12, 13, 35)] == [65_535] * 5
    assert words[9] == 0
    assert words[54] == 0x8000


@pytest.mark.parametrize(
    ("code", "inputs"),
    [
        (VerdictCode.PASS, [True, False, True, False]),
        (VerdictCode.FAIL, [False, True, False, True]),
        (VerdictCode.LATE, [False, True, False, False]),
    ],
)
def test_discrete_inputs_show_the_newest_result(code: VerdictCode, inputs: list[bool]) -> None:
    bits = encode_discrete(view_of(shown_as(code=code)))
    assert bits[16:] == inputs
    assert bits[:2] == [True, True]


def test_ms_until_open_counts_down_to_zero_and_is_absent_while_the_belt_stands() -> None:
    at = [encode(view_of(shown_as()), now_ns=now, word_order="high_first")[12] for now in (0, 5_481 * MS, 9_000 * MS)]
    assert at == [5_481, 0, 0]
    standing = replace(ORDERED, due_ns=None, open_ns=None)
    words = encode(view_of(shown_as(order=standing)), now_ns=0, word_order="high_first")
    assert words[12] == 65_535
    assert words[9] == 0b0101
    assert u32(words, 42) == 0


def test_the_bridge_clock_rolls_over_at_32_bits() -> None:
    words = encode(view_of(None), now_ns=(2**32 + 17) * MS, word_order="high_first")
    assert u32(words, 40) == 17


def test_counters_and_sequences_keep_32_bits() -> None:
    view = replace(view_of(shown_as(sequence=2**32 - 1)), status=status(counters=Counters(triggers=2**32 - 1)))
    words = encode(view, now_ns=0, word_order="high_first")
    assert u32(words, 2) == u32(words, 16) == 2**32 - 1


@pytest.mark.parametrize(
    ("order", "flags"),
    [
        (GateOrder(), 0),
        (GateOrder(state="missed", reason="late"), 0b10),
        (replace(ORDERED, merged=True), 0b11101),
        (replace(ORDERED, guard_given_up=True), 0b101101),
        (replace(ORDERED, collateral=True), 0b101101),
    ],
)
def test_flags_say_what_became_of_the_order(order: GateOrder, flags: int) -> None:
    assert encode_slot(shown_as(order=order), "high_first")[13] == flags


def test_a_doubtful_verdict_is_flagged() -> None:
    assert encode_slot(shown_as(code=VerdictCode.UNCERTAIN), "high_first")[13] & 1 << 6


def test_a_slot_has_its_14_registers_and_its_place() -> None:
    words = encode_slot(shown_as(), "high_first")
    assert len(words) == SLOT_SIZE
    assert (u32(words, 0), words[2:6]) == (123_456, [2, 2, 2, 9300])
    assert (u32(words, 6), u32(words, 8), u32(words, 10)) == (462_639, 463_939, 5_481)
    assert words[12:] == [108, 0b1101]
    assert slot_address(123_456) == 100
    assert slot_address(2**32 - 1) == 100 + 15 * 14


@pytest.mark.parametrize(
    ("value", "word"), [(None, 65_535), (float("nan"), 65_535), (-3.0, 0), (0.4, 0), (65_534.0, 65_534), (1e12, 65_534)]
)
def test_quantities_saturate_below_not_available(value: float | None, word: int) -> None:
    assert quantity(value) == word


@pytest.mark.parametrize(
    ("value", "word"), [(None, 0x8000), (-0.1, 0xFFFF), (1e9, 32_767), (-1e9, 0x8001), (float("inf"), 32_767)]
)
def test_signed_quantities_saturate_beside_none(value: float | None, word: int) -> None:
    assert signed(value, scale=10.0) == word


def test_words_split_and_join() -> None:
    for number in (0, 1, 0xFFFF, 0x10000, 2**32 - 1):
        assert join_u32(*split_u32(number, "high_first"), "high_first") == number
        assert join_u32(*split_u32(number, "low_first"), "low_first") == number
