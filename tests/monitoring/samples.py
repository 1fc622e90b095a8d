"""A station with something in every metric."""

from __future__ import annotations

from bridge.domain.condition import Condition
from bridge.domain.status import Counters, StationState, StationStatus
from bridge.monitoring.metrics import JournalCounts, Measured, Sources
from bridge.monitoring.observations import Observations
from tests.station.fakes import FakeClock

KEY = ("line1", "station1")
STATUS = StationStatus(
    state=StationState.BUSY, online=True, ready=False, busy=True, error=False, recipe_ok=True, degraded=False,
    plc_heartbeat_lost=False, stop_request=True, gate_unguarded=False, clock_ok=True, heartbeat=1, error_code=0,
    error_text="", recipe="r@1", recipe_number=1, model="m@1.0.0", model_sha256="", belt_speed_mm_s=1200.0,
    counters=Counters(triggers=3, passed=1, error=1), last_sequence=0,
)  # fmt: skip
MEASURED = Measured(
    dead_letters=1,
    dropped=2,
    reconnects={"mqtt": 3, "gate": 4},
    waiting=5,
    most_in_flight=6,
    latencies=Observations(FakeClock()).latencies,
    slack=Observations(FakeClock()).slack,
    firing_errors=Condition(gate_mode="bridge").firing_errors,
)
SOURCES = Sources(
    version="1.2.3",
    stations=lambda: {KEY: STATUS},
    measured=lambda: {KEY: MEASURED},
    journal=lambda: JournalCounts(failures=1, lost=2, waiting=3),
    tasks=lambda: {"main": 9, "plc": 4},
)
