"""How the PLC reads the bridge's map: every result once, and a count of those that it could not read at all."""

from __future__ import annotations

import pytest

from simulators.plc.links import BridgeLink
from simulators.plc.tables import LET_PASS, split

SLOTS = 16


class Map:
    """The bridge's input registers as a PLC's connection reads them; `late` are written between two reads of one poll."""

    def __init__(self) -> None:
        self.words = [0] * 324
        self.late: list[int] = []
        self._written = 0

    def show(self, *sequences: int) -> None:
        """Write results as the bridge does: the slot whole, then the live block."""
        for sequence in sequences:
            self._written += 1
            at = 100 + sequence % SLOTS * 14
            self.words[at : at + 4] = [*split(sequence), 1, LET_PASS]
            self.words[2:6] = [*split(sequence), 1, LET_PASS]
            self.words[38:40] = split(self._written)

    def restart(self) -> None:
        self.words, self._written = [0] * 324, 0

    async def read_inputs(self, address: int, count: int) -> list[int]:
        answer = self.words[address : address + count]
        if address == 0:
            late, self.late = self.late, []
            self.show(*late)
        return answer


class Reader:
    """A PLC that has read the map once, and so knows what in it is old."""

    def __init__(self) -> None:
        self.map = Map()
        self.link = BridgeLink(self.map)  # type: ignore[arg-type]

    async def poll(self) -> list[int]:
        _, fresh = await self.link.poll()
        return sorted(result.sequence for result in fresh)


@pytest.fixture
async def reader() -> Reader:
    made = Reader()
    assert await made.poll() == []
    return made


async def test_results_that_all_stand_in_the_ring_are_read_once_and_none_is_missed(reader: Reader) -> None:
    reader.map.show(1, 2, 3)

    assert await reader.poll() == [1, 2, 3]
    assert await reader.poll() == []
    assert reader.link.overrun == 0


async def test_a_result_whose_slot_another_sequence_took_within_one_poll_is_counted_as_missed(reader: Reader) -> None:
    # 5 and 21 share slot 5: two results were written, no more than the ring's 16, and one of them can't be read.
    reader.map.show(5, 21)

    assert await reader.poll() == [21]
    assert reader.link.overrun == 1


async def test_more_results_than_the_ring_holds_are_counted_as_missed(reader: Reader) -> None:
    reader.map.show(*range(1, 21))

    assert await reader.poll() == list(range(5, 21))
    assert reader.link.overrun == 4


async def test_a_result_that_the_ring_shows_before_the_count_does_is_not_missed_the_next_time(reader: Reader) -> None:
    reader.map.show(1, 2)
    reader.map.late = [3]

    assert await reader.poll() == [1, 2, 3]
    assert await reader.poll() == []
    assert reader.link.overrun == 0


async def test_one_that_was_overwritten_while_the_ring_was_read_is_missed_when_the_count_tells_of_it(
    reader: Reader,
) -> None:
    # The count says two; by the time the ring is read, 17 stands where 1 stood. Of three results two were ever seen.
    reader.map.show(1, 2)
    reader.map.late = [17]

    assert await reader.poll() == [2, 17]
    assert reader.link.overrun == 0
    assert await reader.poll() == []
    assert reader.link.overrun == 1


async def test_a_bridge_that_restarted_sets_nothing_off_against_what_was_read_early_before(reader: Reader) -> None:
    reader.map.show(1, 2, 3)
    reader.map.late = [4]
    await reader.poll()
    reader.map.restart()
    reader.map.show(1, 17)

    assert await reader.poll() == [17]
    assert reader.link.overrun == 1
