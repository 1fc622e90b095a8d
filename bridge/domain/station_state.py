"""The station's state: one table from what is so to the word that shows it, and one of the changes that may follow.

Rules, in the order in which they decide: a stopping station stays stopping; a fault outranks everything else; a station
that has not been ready yet is starting; one that is switched off or inhibited is disabled; a judging one is busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bridge.domain.status import StationState

RULES: tuple[tuple[str, StationState], ...] = (
    ("stopping", StationState.STOPPING),
    ("fault", StationState.FAULT),
    ("starting", StationState.STARTING),
    ("disabled", StationState.DISABLED),
    ("inhibited", StationState.DISABLED),
    ("busy", StationState.BUSY),
)

_RUNNING = frozenset({StationState.READY, StationState.BUSY, StationState.DISABLED, StationState.FAULT})

ALLOWED: Mapping[StationState, frozenset[StationState]] = MappingProxyType(
    {
        StationState.STARTING: _RUNNING | {StationState.STARTING, StationState.STOPPING},
        StationState.READY: _RUNNING | {StationState.STOPPING},
        StationState.BUSY: _RUNNING | {StationState.STOPPING},
        StationState.DISABLED: _RUNNING | {StationState.STOPPING},
        StationState.FAULT: _RUNNING | {StationState.STARTING, StationState.STOPPING},
        StationState.STOPPING: frozenset({StationState.STOPPING}),
    }
)


def state_of(
    *,
    stopping: bool = False,
    fault: bool = False,
    starting: bool = False,
    disabled: bool = False,
    inhibited: bool = False,
    busy: bool = False,
) -> StationState:
    """Give the state of the first rule that holds; READY when none does."""
    so = {
        "stopping": stopping,
        "fault": fault,
        "starting": starting,
        "disabled": disabled,
        "inhibited": inhibited,
        "busy": busy,
    }
    return next((state for name, state in RULES if so[name]), StationState.READY)


def next_state(before: StationState, wanted: StationState) -> StationState:
    """Give `wanted` where the table allows it after `before`, else `before`.

    A stopping station never comes back; a station starts anew only out of a fault before it was ready.
    """
    return wanted if wanted in ALLOWED[before] else before
