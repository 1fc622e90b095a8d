"""Twice the load that fits: every part is accounted for, nothing is judged out of time, and the line recovers at once.

By hand for the full minute: `LINEGATE_SOAK_OVERLOAD_S=60 pytest -m soak tests/soak/test_overload.py -s --timeout=600`.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from bridge.domain.rfc3339 import parse_utc
from tests.soak.fed_line import fed_line
from tests.soak.flow import Told
from tests.soak.rig import DUE_MS, OUTPUT_MS, count, tell

OVERLOAD_S = count("LINEGATE_SOAK_OVERLOAD_S", 10)
DEADLINE_MS = DUE_MS - OUTPUT_MS - 20.0
QUEUE = 64
"""Parts with their pictures that the station lets wait; those beyond get ERROR, in their turn."""
OPEN = 256
"""What may be unacknowledged: nothing beyond that is taken from the broker."""
BELIEF_MS = 250.0
"""How far the place of a part may be out before it is told to be unknown, on a machine that does all of this at once."""


def large_picture(level: int) -> bytes:
    """Give a picture that takes some 20 ms to decode: then the judging, and not this test, is what a rate exceeds."""
    noise = np.random.default_rng(level).normal(level, 12, (1200, 1600, 3))
    done, data = cv2.imencode(".jpg", np.clip(noise, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 50])
    assert done
    return bytes(data)


def age_ms(part: Told) -> float:
    """Give how long after the sending the bridge believes that the part met the beam, 0 where it says it can't know."""
    assert part.document is not None
    return (
        0.0
        if part.document["reason"].startswith("held back")
        else (parse_utc(part.document["triggered_utc"]) - part.utc_ns) / 1e6
    )


@pytest.mark.soak
@pytest.mark.timeout(90 + 3 * OVERLOAD_S)
def test_twice_the_load_that_fits(tmp_path: Path) -> None:
    with fed_line(tmp_path, (large_picture(40), large_picture(215))) as (bridge, flow):
        flow.full_speed(20)
        fits = flow.full_speed(60, in_flight=2)
        over = flow.paced(OVERLOAD_S, rate=2 * fits)
        waiting = bridge.metrics()["linegate_parts_in_flight"]
        ended_s = time.monotonic()
        after = flow.paced(4.0, rate=fits / 3)
        flow.wait_done()
        metrics = bridge.metrics()
        calm = [flow.parts[sequence] for sequence in after if flow.parts[sequence].at_s > ended_s + 2.0]
        kinds = Counter(flow.parts[sequence].document["verdict"] for sequence in over)
        ages = sorted(age_ms(flow.parts[sequence]) for sequence in over)
        tell(
            tmp_path,
            fits=round(fits, 1),
            sent=len(over),
            verdicts=dict(kinds),
            in_flight=waiting,
            believed_age_ms={"median": round(statistics.median(ages), 1), "max": round(ages[-1], 1)},
            latency_after_ms={
                "median": round(statistics.median(part.latency_ms for part in calm), 1),
                "max": round(max(part.latency_ms for part in calm), 1),
            },
        )
        assert flow.repeated == 0
        assert waiting < QUEUE + OPEN
        assert set(kinds) & {"LATE", "ERROR"}, "it was no overload"
        assert ages[-1] < BELIEF_MS
        assert metrics["linegate_triggers_total"] == len(flow.parts)
        for part in flow.parts:
            check_in_time(part)
        assert all(part.document["verdict"] in ("PASS", "FAIL") for part in calm)
        assert statistics.median(part.latency_ms for part in calm) < 200


def check_in_time(part: Told) -> None:
    """A verdict that lets a part pass, or orders the gate for it, stands by the deadline."""
    assert part.document is not None
    if part.document["verdict"] in ("PASS", "FAIL"):
        took_ms = (parse_utc(part.document["decided_utc"]) - parse_utc(part.document["triggered_utc"])) / 1e6
        assert took_ms < DEADLINE_MS + 1.0, f"{part.document['verdict']} {took_ms:.0f} ms after the trigger"
