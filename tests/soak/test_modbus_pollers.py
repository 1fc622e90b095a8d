"""Ten PLCs that poll at 100 Hz while parts are judged: none of 100,000 reads shows a mixture of two results.

More by hand: `LINEGATE_SOAK_READS=1000000 pytest -m soak tests/soak/test_modbus_pollers.py -s --timeout=2000`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from simulators.plc.tables import BridgeResult, decode_live, decode_ring
from tests.soak.fed_line import fed_line
from tests.soak.rig import count, pictures, tell
from tests.wire.modbus_bench import RawClient

pytestmark = pytest.mark.soak

READS = count("LINEGATE_SOAK_READS", 100_000)
POLLERS = 10
PERIOD_S = 0.01
RATE = 20.0
RING_HALVES = ((100, 112), (212, 112))
DISPOSITIONS = {"NONE": 0, "LET_PASS": 1, "REJECT": 2}


@dataclass
class Seen:
    """What all pollers saw. Each of `results` was shown as one; `repeats` are reads in parts that had to be repeated."""

    reads: int = 0
    results: Counter[BridgeResult] = field(default_factory=Counter)
    slots: set[tuple[int, int]] = field(default_factory=set)
    torn: list[str] = field(default_factory=list)
    repeats: int = 0


class Pollers:
    """Ten connections, each polling every 10 ms in one of three ways, on a thread of their own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen = Seen()
        self.took_s = 0.0
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pollers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def polling(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(30)
        assert self._failed is None, repr(self._failed)

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            asyncio.run(self._all())
        except Exception as exc:  # noqa: BLE001 - told by `join`, on the test's own thread
            self._failed = exc
        self.took_s = time.monotonic() - begun

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(POLLERS):
                group.create_task(self._poll())

    async def _poll(self) -> None:
        client = await RawClient.connect(self._port)
        ways = (self._live, self._ring, self._in_parts)
        due, turn = time.monotonic(), 0
        while self.seen.reads < READS:
            await ways[turn % len(ways)](client)
            turn += 1
            due = max(due + PERIOD_S, time.monotonic() - PERIOD_S)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        client.close()

    async def _read(self, client: RawClient, address: int, length: int) -> list[int]:
        self.seen.reads += 1
        return await client.registers(4, address, length)

    async def _live(self, client: RawClient) -> None:
        words = await self._read(client, 0, 55)
        live = decode_live(words)
        if words[2:4] != words[36:38]:
            self.seen.torn.append(f"2-3 {words[2:4]}, 36-37 {words[36:38]}")
        judged = sum(live.counters[name] for name in ("pass", "fail", "uncertain", "error", "late"))
        if live.counters["triggers"] < judged:
            self.seen.torn.append(f"more verdicts than triggers: {live.counters}")
        if live.newest.verdict:
            self.seen.results[live.newest] += 1

    async def _ring(self, client: RawClient) -> None:
        words = [word for start, length in RING_HALVES for word in await self._read(client, start, length)]
        for slot in range(16):
            at = 14 * slot
            if words[at + 2]:
                self.seen.slots.add((slot, (words[at] << 16 | words[at + 1]) % 16))
        for result in decode_ring(words):
            self.seen.results[result] += 1

    async def _in_parts(self, client: RawClient) -> None:
        """Read in requests of a few registers, by the rule: 2-3 first, 36-37 last, once more if they differ."""
        while True:
            first = await self._read(client, 2, 2)
            head = await self._read(client, 4, 8)
            close = await self._read(client, 44, 2)
            if await self._read(client, 36, 2) == first:
                break
            self.seen.repeats += 1
        if head[0]:
            result = BridgeResult(
                sequence=first[0] << 16 | first[1],
                verdict=head[0],
                disposition=head[1],
                label_id=head[2],
                score=head[3],
                open_count=head[6] << 16 | head[7],
                close_count=close[0] << 16 | close[1],
                flags=head[5],
            )
            self.seen.results[result] += 1


def told(document: dict[str, Any]) -> tuple[int, int, int]:
    """Give code, disposition and score register as the verdict on MQTT has them."""
    score = document["score"]
    return document["code"], DISPOSITIONS[document["disposition"]], 65_535 if score is None else round(score * 10_000)


@pytest.mark.timeout(600)
def test_no_read_shows_a_mixture_of_two_results(tmp_path: Path) -> None:
    with fed_line(tmp_path, pictures()) as (bridge, flow):
        pollers = Pollers(bridge.ports.modbus)
        pollers.start()
        while pollers.polling:
            flow.paced(1.0, rate=RATE)
        pollers.join()
        flow.wait_done()
        seen = pollers.seen
        assert seen.torn == []
        assert seen.reads >= READS
        assert seen.slots == {(slot, slot) for slot in range(16)}
        by_sequence: dict[int, set[BridgeResult]] = {}
        for result in seen.results:
            by_sequence.setdefault(result.sequence, set()).add(result)
        changed = [each for each in by_sequence.values() if len(each) > 1]
        assert changed == [], "one part was shown as two different results"
        shown = {n: (each.verdict, each.disposition, each.score) for n, (each,) in by_sequence.items()}
        documents = {sequence: part.document for sequence, part in enumerate(flow.parts)}
        wrong = [(n, result, documents[n]) for n, result in shown.items() if result != told(documents[n] or {})]
        assert wrong == []
        assert len(shown) > 0.9 * (len(flow.parts) - 2 * RATE), "hardly any result was seen"
        assert {result[0] for result in shown.values()} >= {1, 2}, "both verdicts came by"
    tell(
        tmp_path,
        reads=seen.reads,
        reads_per_s=seen.reads / pollers.took_s,
        results=len(shown),
        parts=len(flow.parts),
        repeated=seen.repeats,
    )
