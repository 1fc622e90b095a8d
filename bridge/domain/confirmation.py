"""What the reject bin's count says: which reject a count belongs to, which one never came, which part should not be there.

The PLC counts parts, it does not name them. With the distance from the beam to the bin's sensor a count belongs to the
part whose front edge is there, by the belt's position, so that a stop or a ramp moves the window with the part. Without
it a count belongs to the oldest reject, and a reject must be seen within 3 s of passing the gate.

Rules, in the order in which they decide on one count: the oldest reject whose window has begun; a part that the PLC may
have rejected by itself, because its order was missed or it has no verdict yet; a part let pass whose place it is. What
is left, the PLC's rejects that nobody triggered, say, is nobody's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bridge.domain.belt import LOST_MM, NS_PER_MS, NS_PER_S, Belt
from bridge.domain.gate_track import PartKey
from bridge.domain.guards import NO_GUARDS, GuardSettings

CONFIRM_MS = 3000.0  # from the gate to the bin's sensor and through the PLC, where the way is unknown
SLACK_NS = 30 * NS_PER_MS  # a count that was written in time may wait so long in this process
BLIND_NS = 500 * NS_PER_MS  # longer without a look, or without a measured belt, and counts may be late
EARLY_SHARE = 0.25  # a count comes with or after its part: most of the way to the next one is its own
MOST = 256

SeenAs = Literal["confirmed", "own", "in bin", "excused", "unknown"]
State = Literal["open", "rejected", "given up", "passing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One part seen in the bin: a reject confirmed, the PLC's own, one that should have passed, or nobody known.

    "excused" should have passed and lies there with good reason, which is `text`.
    """

    kind: SeenAs
    key: PartKey | None = None
    text: str = ""


@dataclass(slots=True, kw_only=True)
class _Place:
    """A part on its way to the bin's sensor. `at_mm` is the belt's position with it there, None where unknown."""

    at_mm: float | None
    state: State = "open"
    excuse: str = ""
    early_mm: float = math.inf
    late_mm: float = math.inf
    reached_ns: int | None = None


class Confirmations:
    """Match the bin's count with the parts of one station.

    A line without a bin sensor never counts one: where no distance says that there is one, an overdue part means
    nothing until the first count, `in_use`. `pitch_mm` is how near an unknown part can be to a known one.
    """

    def __init__(self, belt: Belt | None = None, guards: GuardSettings = NO_GUARDS, *, pitch_mm: float = 0.0) -> None:
        self._belt = belt if guards.confirm_distance_mm else None
        self._distance_mm = guards.confirm_distance_mm
        self._window_ns = round(guards.confirm_window_ms * NS_PER_MS)
        self._pitch_mm = pitch_mm
        self._places: dict[PartKey, _Place] = {}
        self._last: _Place | None = None
        self._looked_ns: int | None = None
        self._grace_ns = 0
        self.in_use = self._belt is not None

    def met(self, key: PartKey, x0_mm: float | None, *, gap: bool) -> None:
        """Take a part as it meets the beam; with a `gap` in the sequence an unknown part may lie before it."""
        if self._belt is None:
            return
        if x0_mm is None:
            if self._last is not None:
                self._last.late_mm = (1 - EARLY_SHARE) * self._pitch_mm
            self._last = None  # it is somewhere between its neighbours
            return
        place = _Place(at_mm=x0_mm + self._distance_mm)
        before_mm = None if self._last is None or gap else x0_mm + self._distance_mm - (self._last.at_mm or 0.0)
        apart_mm = before_mm if before_mm is not None and before_mm > 0 else self._pitch_mm
        place.early_mm = EARLY_SHARE * apart_mm
        if self._last is not None:
            self._last.late_mm = (1 - EARLY_SHARE) * apart_mm
        self._places[key] = self._last = place
        if len(self._places) > MOST:
            del self._places[next(iter(self._places))]

    def ordered(self, key: PartKey) -> None:
        """Expect a part in the bin."""
        self._places.setdefault(key, _Place(at_mm=None)).state = "rejected"

    def given_up(self, key: PartKey) -> None:
        """Expect it no more: its order was missed. The PLC may reject it by itself."""
        if (place := self._places.get(key)) is not None:
            place.state = "given up"
            if place.at_mm is None:
                del self._places[key]

    def let_pass(self, key: PartKey, *, excuse: str = "") -> None:
        """Expect a part not to come; `excuse` is why it may come all the same."""
        if (place := self._places.get(key)) is not None:
            place.state, place.excuse = "passing", place.excuse or excuse

    def excuse(self, reason: str, key: PartKey | None = None) -> None:
        """Let it be no alarm when a part comes that was let pass; without a key, none of those now on their way."""
        for each, place in self._places.items():
            if key in (None, each):
                place.excuse = place.excuse or reason

    def passed(self, key: PartKey, now_ns: int) -> None:
        """Note that a part is past the gate: where the way to the bin is unknown, its time runs from now on."""
        place = self._places.get(key)
        if place is not None and place.at_mm is None:
            place.reached_ns = now_ns

    def confirmed(self, count: int, at_ns: int) -> list[Seen]:
        """Take so many parts newly seen in the bin, as written at `at_ns`; each part is seen once."""
        self.in_use = self.in_use or count > 0
        seen: list[Seen] = []
        while len(seen) < count:
            one = self._one(at_ns)
            if one.key is None:
                seen += [one] * (count - len(seen))
                break
            del self._places[one.key]
            seen.append(one)
        return seen

    def overdue(self, now_ns: int) -> list[PartKey]:
        """Give, once, the parts that should have been in the bin by now: nobody waits for them any more."""
        self._look(now_ns)
        ended = [key for key, place in self._places.items() if self._over(place, now_ns)]
        late = [key for key in ended if self._places[key].state == "rejected"]
        for key in ended:
            del self._places[key]
        return late

    def next_ns(self, now_ns: int) -> int | None:
        """Give the moment at which the next reject is overdue, by the belt as it runs now; None without one."""
        moments = []
        for place in self._places.values():
            if place.state == "rejected" and self._belt is not None and place.at_mm is not None:
                reached_ns = place.reached_ns or self._belt.when(place.at_mm, now_ns)
                if reached_ns is not None:
                    moments.append(max(reached_ns + self._window_ns + SLACK_NS, self._grace_ns))
        return min(moments, default=None)

    def _one(self, at_ns: int) -> Seen:
        """Say whose one count is."""
        here_mm = None if self._belt is None else self._belt.position_mm(at_ns)
        speed_mm_s = 0.0 if self._belt is None else abs(self._belt.held_speed_mm_s)
        reach_mm = max(speed_mm_s * self._window_ns / NS_PER_S, LOST_MM)
        waiting = [
            (key, place, math.inf if here_mm is None or place.at_mm is None else here_mm - place.at_mm)
            for key, place in self._places.items()
        ]
        for key, place, gone_mm in waiting:
            if place.state == "rejected" and gone_mm >= -reach_mm:
                return Seen(kind="confirmed", key=key)
        for key, place, gone_mm in waiting:
            if place.state in ("given up", "open") and abs(gone_mm) <= reach_mm:
                return Seen(kind="own", key=key)
        for key, place, gone_mm in waiting:
            its_own = -min(place.early_mm, reach_mm) <= gone_mm <= min(place.late_mm, reach_mm)
            if place.state == "passing" and its_own:
                return Seen(kind="excused" if place.excuse else "in bin", key=key, text=place.excuse)
        return Seen(kind="unknown")

    def _look(self, now_ns: int) -> None:
        """Note which parts have reached the sensor, and whether anybody could have told us of it."""
        belt, before_ns, self._looked_ns = self._belt, self._looked_ns, now_ns
        if belt is None:
            return
        away = before_ns is not None and now_ns - before_ns > BLIND_NS
        if away or now_ns - belt.known_until_ns(now_ns) > BLIND_NS:
            self._grace_ns = now_ns + self._window_ns
            self.excuse("the bridge or the PLC was silent: the PLC rejects what it has no result for")
        here_mm = belt.position_mm(now_ns)
        for place in self._places.values():
            if place.at_mm is None or here_mm is None:
                continue
            if here_mm < place.at_mm:
                place.reached_ns = None
            elif place.reached_ns is None:
                place.reached_ns = min(belt.when(place.at_mm, now_ns) or now_ns, now_ns)

    def _over(self, place: _Place, now_ns: int) -> bool:
        """Whether nobody waits for a count of this part any more; silence makes that later, but not for ever."""
        if place.reached_ns is None:
            return False
        longest_ns = place.reached_ns + round(CONFIRM_MS * NS_PER_MS)
        if self._belt is None or place.at_mm is None:
            return now_ns > longest_ns
        end_ns = place.reached_ns + self._window_ns + SLACK_NS
        told = self._belt.known_until_ns(now_ns) >= place.reached_ns + self._window_ns // 2
        return now_ns >= end_ns and (now_ns >= longest_ns or (told and now_ns >= self._grace_ns))
