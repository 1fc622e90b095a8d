"""Which alarms stand, and what follows from them: StopRequest, Degraded, the error code shown to the PLC."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.domain.alarms import ALARMS, AlarmKind

_RANK = {"warning": 0, "error": 1, "critical": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmChange:
    """An alarm that was raised or cleared just now."""

    kind: AlarmKind
    raised: bool
    text: str


class AlarmBoard:
    """Hold the standing alarms. A latched alarm stands until `clear_latched`, the others until their cause ends."""

    def __init__(self) -> None:
        self._standing: dict[str, str] = {}

    def raise_alarm(self, name: str, text: str = "") -> AlarmChange | None:
        """Let an alarm stand; gives the change, None when it stood already. Raises KeyError for an unknown name."""
        kind = ALARMS[name]
        detail = text or kind.text
        if name in self._standing:
            return None
        self._standing[name] = detail
        return AlarmChange(kind=kind, raised=True, text=detail)

    def end(self, name: str) -> AlarmChange | None:
        """Tell that the cause of an alarm is gone; a latched one stays until ClearError."""
        kind = ALARMS[name]
        if kind.latched or name not in self._standing:
            return None
        return AlarmChange(kind=kind, raised=False, text=self._standing.pop(name))

    def set(self, name: str, *, standing: bool, text: str = "") -> AlarmChange | None:
        """Raise or end an alarm by its condition."""
        return self.raise_alarm(name, text) if standing else self.end(name)

    def clear_latched(self, *, still_true: frozenset[str] = frozenset()) -> list[AlarmChange]:
        """Clear what ClearError clears; an alarm in `still_true` has its cause yet and stays."""
        names = [name for name in self._standing if ALARMS[name].latched and name not in still_true]
        return [AlarmChange(kind=ALARMS[name], raised=False, text=self._standing.pop(name)) for name in names]

    def texts(self, *names: str) -> list[str]:
        """Give name and text of those of these alarms that stand."""
        return [f"{name}: {self._standing[name]}" for name in names if name in self._standing]

    @property
    def standing(self) -> tuple[str, ...]:
        """Names of the standing alarms, oldest first."""
        return tuple(self._standing)

    @property
    def standing_with_text(self) -> tuple[tuple[str, str], ...]:
        """Names and texts of the standing alarms, oldest first."""
        return tuple(self._standing.items())

    @property
    def stop_request(self) -> bool:
        """Whether a part that should be rejected can't be, or could not be."""
        return any(ALARMS[name].stop_request for name in self._standing)

    @property
    def degraded(self) -> bool:
        """Whether a standing alarm makes the station less than whole."""
        return any(ALARMS[name].degraded for name in self._standing)

    @property
    def error(self) -> bool:
        """Whether an alarm of severity error or critical stands."""
        return any(ALARMS[name].severity != "warning" for name in self._standing)

    @property
    def foremost(self) -> tuple[int, str]:
        """Code and text of the gravest standing alarm, the newest among equals; (0, "") for none."""
        if not self._standing:
            return 0, ""
        names = list(self._standing)
        name = max(names, key=lambda each: (_RANK[ALARMS[each].severity], names.index(each)))
        return ALARMS[name].code, f"{name}: {self._standing[name]}"
