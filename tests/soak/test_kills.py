"""The bridge killed at any moment, the broker restarted, both at once: what the outside sees of it.

By hand, about 20 minutes: `LINEGATE_SOAK_KILLS=200 LINEGATE_SOAK_RESTARTS=50 pytest -m soak tests/soak/test_kills.py -s`
(with `--timeout=3600`); LINEGATE_SOAK_SEED picks other moments.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.processes import LINEGATE, environment, eventually
from tests.soak.observers import wait_for_live
from tests.soak.rig import Line, count, descendants, line, still_alive, tell
from tests.soak.verdict_of_the_run import check

KILLS = count("LINEGATE_SOAK_KILLS", 20)
RESTARTS = count("LINEGATE_SOAK_RESTARTS", 5)
SEED = count("LINEGATE_SOAK_SEED", 20261121)
CHILDREN_LIMIT_S = 0.5
BACK_LIMIT_S = 5.0


class Misfortune:
    """What befalls a line; each method returns when the line is said to be well again, or was struck once more."""

    def __init__(self, on: Line, chance: random.Random) -> None:
        self._line, self._chance = on, chance

    def kill_bridge(self, *, in_start: bool, broker: str | None = None) -> None:
        """Kill the bridge, with `broker` "stop" or "kill" mosquitto too, and start all at once again.

        The blow falls while the bridge starts (`in_start`), or up to 2 s after the first live result of its run.
        """
        bridge, registers = self._line.bridge, self._line.registers
        if in_start:
            time.sleep(self._chance.uniform(0.0, 3.0))
        else:
            self._line.live_after_s.append(wait_for_live(registers, bridge.run) - bridge.started_s)
            time.sleep(self._chance.uniform(0.0, 2.0))
        assert bridge.process.poll() is None, bridge.log
        children = descendants(bridge.process.pid)
        lost_ns = time.time_ns()
        bridge.kill()
        killed_s = time.monotonic()
        if broker is not None:
            self._end_broker(broker)
        bridge.start()
        self._line.started_s[bridge.run] = bridge.started_s
        self._line.outages.append((lost_ns, time.time_ns()))
        if broker is not None:
            self._line.broker.start()
        time.sleep(max(0.0, killed_s + CHILDREN_LIMIT_S - time.monotonic()))
        assert not still_alive(children), "a child has outlived its bridge"

    def restart_broker(self, how: str) -> None:
        """End mosquitto, leave it away for up to 2 s, and see that the bridge answers again within 5 s."""
        bridge = self._line.bridge
        wait_for_live(self._line.registers, bridge.run)
        time.sleep(self._chance.uniform(0.0, 1.0))
        lost_ns = time.time_ns()
        self._end_broker(how)
        time.sleep(self._chance.uniform(0.0, 2.0))
        self._line.outages.append((lost_ns, time.time_ns()))
        self._line.broker.start()
        back_s, back_ns = time.monotonic(), time.time_ns()
        after = {one.sequence for one in self._line.feeder.sent}

        def answered() -> float | None:
            pairs = zip(self._line.subscriber.verdicts[-200:], self._line.subscriber.verdict_at_s[-200:], strict=False)
            return next((at_s for each, at_s in pairs if each["sequence"] not in after and not each["replayed"]), None)

        took_s = eventually(answered) - back_s
        self._line.back_after_s.append(took_s)
        online = [status for at_s, status in self._line.subscriber.status if at_s > back_s and status["online"]]
        assert online, "no status since the broker is back"
        assert took_s <= BACK_LIMIT_S, f"answered {took_s:.1f} s after the broker was back ({back_ns})"

    def _end_broker(self, how: str) -> None:
        self._line.broker.stop() if how == "stop" else self._line.broker.kill()


def schedule(chance: random.Random, *, kills: int, restarts: int, how: str) -> list[tuple[str, bool, str | None]]:
    """Mix kills of the bridge (three in ten while it starts), restarts of the broker, and both at once (one in three)."""
    both = restarts // 3 + (restarts > 0)
    blows: list[tuple[str, bool, str | None]] = [("bridge", False, how)] * min(both, kills)
    blows += [("bridge", number % 10 < 3, None) for number in range(kills - len(blows))]
    blows += [("broker", False, how)] * (restarts - min(both, kills))
    chance.shuffle(blows)
    return blows


def strike(on: Line, blows: list[tuple[str, bool, str | None]], chance: random.Random) -> None:
    misfortune = Misfortune(on, chance)
    for target, in_start, how in blows:
        if target == "bridge":
            misfortune.kill_bridge(in_start=in_start, broker=how)
        else:
            assert how is not None
            misfortune.restart_broker(how)
    wait_for_live(on.registers, on.bridge.run)


def finish(on: Line, *, broker_lost_nothing: bool) -> None:
    """Let the flow end, and hold the whole run against the promises."""
    on.feeder.stop()
    if broker_lost_nothing:
        on.wait_answered()
    else:
        eventually(lambda: on.bridge.metrics()["linegate_parts_in_flight"] == 0)
    time.sleep(0.5)
    listed = subprocess.run(
        [*LINEGATE, "records", "list", "--json", "-n", "5"],
        cwd=on.folder, env=environment(**on.bridge.ports.settings), capture_output=True, text=True, timeout=25, check=False,
    )  # fmt: skip
    assert (listed.returncode, listed.stderr, len(json.loads(listed.stdout))) == (0, "", 5)
    figures = check(on, broker_lost_nothing=broker_lost_nothing)
    assert on.bridge.stop()[0] == 0, on.bridge.log
    assert "Traceback" not in on.bridge.logs()
    tell(on.folder, **figures)


@pytest.mark.soak
@pytest.mark.timeout(60 + 12 * KILLS + 12 * RESTARTS)
def test_no_part_is_lost_judged_twice_or_actuated_twice(tmp_path: Path) -> None:
    """The broker ends in good order, so it holds all that it acknowledged: the count is strict."""
    chance = random.Random(SEED)
    restarts = RESTARTS - RESTARTS * 2 // 5
    with line(tmp_path) as on:
        strike(on, schedule(chance, kills=KILLS - KILLS // 5, restarts=restarts, how="stop"), chance)
        finish(on, broker_lost_nothing=True)


@pytest.mark.soak
@pytest.mark.timeout(60 + 12 * KILLS + 12 * RESTARTS)
def test_a_killed_broker_costs_what_it_forgot_and_nothing_else(tmp_path: Path) -> None:
    """Killed, mosquitto forgets what it took since it last saved its sessions, each second here; nothing else is lost."""
    chance = random.Random(SEED + 1)
    with line(tmp_path) as on:
        strike(on, schedule(chance, kills=KILLS // 5, restarts=RESTARTS * 2 // 5, how="kill"), chance)
        finish(on, broker_lost_nothing=False)
