"""One station as PLCs see it: what servers show and clients write into PLCs, and what comes back from PLCs.

It lives on the servers' own loop; nothing in it is thread-safe or waits. Views are replaced whole, so that a reader sees
one state or the next and never a mixture.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bridge.domain.gate import GateOrder
from bridge.domain.handshake import ResultHandshake, ResultState
from bridge.domain.messages import Inbound
from bridge.domain.status import StationState, StationStatus
from bridge.outputs.plc.control import ControlInterpreter, PlcWay
from bridge.outputs.plc.control_block import ControlValue
from bridge.outputs.plc.register_map import RING_BASE, encode_slot, slot_address
from bridge.outputs.plc.view import EMPTY_RING, RING_SLOTS, SLOT_SIZE, PlcView, Shown
from bridge.outputs.plc.words import WordOrder
from bridge.ports import Alarm, Outcome

HISTORY = 1000
STALE_AFTER_NS = 2_000_000_000


class PlcPanel:
    """Hold what a station shows to PLCs, and turn what they write into messages for it.

    `post` takes each message and must not block. `word_order` rules the ring, which OPC UA shows too. With `result_ack`
    each result stands until a PLC acknowledges it; the ring never waits.
    """

    def __init__(
        self,
        *,
        station: str,
        post: Callable[[Inbound], None],
        word_order: WordOrder = "high_first",
        result_ack: bool = False,
        open_lead_ms: float = 0.0,
        close_lead_ms: float = 0.0,
    ) -> None:
        self.station = station
        self.word_order: WordOrder = word_order
        self.view = PlcView(open_lead_ms=open_lead_ms, close_lead_ms=close_lead_ms)
        self._post = post
        self._result_ack = result_ack
        self._results: ResultHandshake[Shown] = ResultHandshake()
        self._ring = EMPTY_RING
        self._ring_slots: tuple[Shown | None, ...] = (None,) * RING_SLOTS
        self._history: OrderedDict[int, str] = OrderedDict()
        self._controls: Mapping[PlcWay, ControlInterpreter] = {
            "modbus": ControlInterpreter("modbus"),
            "opcua": ControlInterpreter("opcua"),
            "modbus_client": ControlInterpreter("modbus", way="modbus_client"),
            "opcua_client": ControlInterpreter("opcua", way="opcua_client"),
        }
        self._heartbeat_at_ns: int | None = None
        self._watchers: list[Callable[[PlcView], None]] = []
        self.alarms: dict[str, Alarm] = {}
        self._alarm_watchers: list[Callable[[Alarm], None]] = []
        self._capture_watchers: list[Callable[[int, int], None]] = []

    def watch(self, watcher: Callable[[PlcView], None]) -> None:
        """Call `watcher` with each new view, at once, within the same loop step."""
        self._watchers.append(watcher)

    def watch_alarms(self, watcher: Callable[[Alarm], None]) -> None:
        """Call `watcher` with each alarm that is raised or cleared."""
        self._alarm_watchers.append(watcher)

    def watch_captures(self, watcher: Callable[[int, int], None]) -> None:
        """Call `watcher` with the sequence of each part whose picture was taken, and the exposure's moment."""
        self._capture_watchers.append(watcher)

    @property
    def tells_captures(self) -> bool:
        """Whether anybody watches captures; any thread may ask."""
        return bool(self._capture_watchers)

    def captured(self, sequence: int, at_utc_ns: int) -> None:
        """Tell the watchers that a part's picture was taken; no register shows it."""
        for watcher in self._capture_watchers:
            watcher(sequence, at_utc_ns)

    def alarm(self, alarm: Alarm) -> None:
        """Keep in `alarms` what stands, and tell the watchers of the change."""
        self.alarms.pop(alarm.kind.name, None)
        if alarm.raised:
            self.alarms[alarm.kind.name] = alarm
        for watcher in self._alarm_watchers:
            watcher(alarm)

    def result_document(self, sequence: int) -> str | None:
        """Give the JSON verdict of one of the last 1,000 results, replayed ones too; None when unknown."""
        return self._history.get(sequence)

    @property
    def newest_sequence(self) -> int | None:
        """The sequence of the newest verdict that is remembered, an earlier run's too; None without one."""
        return next(reversed(self._history), None)

    def publish(self, outcome: Outcome) -> None:
        """Show one outcome. A replayed one enters the history alone: actuation is never replayed."""
        sequence = outcome.result.part.sequence
        self.remember(sequence, outcome.document)
        if outcome.result.replayed:
            return
        shown = Shown(result=outcome.result, order=outcome.result.order, document=outcome.document)
        self._write_slot(shown)
        if self._result_ack:
            self._results = self._results.offer(shown)
        else:
            self._results = replace(self._results, state=ResultState.EMPTY).offer(shown)
        running = self.view.status.state is not StationState.STOPPING
        self._show(newest=shown, live=running, written=self.view.written + 1)

    def remember(self, sequence: int, document: str) -> None:
        """Take a verdict into the history that GetResult answers from; the newest of a sequence counts."""
        self._history[sequence] = document
        self._history.move_to_end(sequence)
        if len(self._history) > HISTORY:
            self._history.popitem(last=False)

    def revise(self, sequence: int, order: GateOrder) -> None:
        """Rewrite moment and time-valid flag of a published order wherever it still stands. Counts never change."""
        held = self._ring_slots[sequence % RING_SLOTS]
        if held is None or held.result.part.sequence != sequence:
            return
        revised = replace(held, order=order)
        self._write_slot(revised)
        self._results = replace(
            self._results,
            shown=_revised(self._results.shown, held.result.part.sequence, order),
            waiting=tuple(
                replace(each, order=order) if _is(each, sequence) else each for each in self._results.waiting
            ),
        )
        self._show(newest=_revised(self.view.newest, sequence, order))

    def show(self, status: StationStatus, *, now_ns: int) -> None:
        """Show the station's status. A result stays valid only while the station runs."""
        beats = self._heartbeat_at_ns is None or status.heartbeat != self.view.status.heartbeat
        if beats:
            self._heartbeat_at_ns = now_ns
        live = self.view.live and status.state is not StationState.STOPPING
        self._show(status=status, stale=self.view.stale and not beats, live=live)

    def check_heartbeat(self, now_ns: int) -> None:
        """Take back Ready and the result of a station whose heartbeat has stood still for 2 s."""
        last = self._heartbeat_at_ns
        if last is not None and now_ns - last > STALE_AFTER_NS and not self.view.stale:
            self._show(stale=True, live=False)

    def sight(self, way: PlcWay, found: Mapping[str, ControlValue], *, now_ns: int) -> None:
        """Take what stands in a PLC's own block when a connection begins: nobody saw when its bits rose."""
        self._controls[way].sight(found)
        self.control(way, found, now_ns=now_ns)

    def control(self, way: PlcWay, written: Mapping[str, ControlValue], *, now_ns: int) -> None:
        """Take what one request of a PLC wrote, or what was read of it, by the keys of the control block's table."""
        ready = self.view.status.ready and not self.view.stale
        control = self._controls[way].apply(written, now_ns=now_ns, ready=ready)
        if control.clear_error:
            for each in self._controls.values():
                each.clear_error()
            self._results = self._results.cleared()
        self._acknowledge(control.result_ack, control.acknowledged_sequence)
        for message in control.messages:
            self._post(message)
        self._show()

    def post(self, message: Inbound) -> None:
        """Pass on a message that came by another way than the control block, such as a method call."""
        self._post(message)

    def link_lost(self, way: PlcWay) -> None:
        """Tell that no connection is left of those that wrote the control block."""
        self._controls[way].link_lost()

    def _acknowledge(self, bit: bool | None, sequence: int | None) -> None:
        if not self._result_ack:
            return
        if bit is not None:
            self._results = self._results.acknowledge(up=bit)
        shown = self._results.shown
        if sequence is not None and self._results.valid and shown is not None and _is(shown, sequence):
            self._results = self._results.acknowledge(up=True).acknowledge(up=False)

    def _write_slot(self, shown: Shown) -> None:
        sequence = shown.result.part.sequence
        slot, start = sequence % RING_SLOTS, slot_address(sequence) - RING_BASE
        self._ring_slots = (*self._ring_slots[:slot], shown, *self._ring_slots[slot + 1 :])
        words = encode_slot(shown, self.word_order)
        self._ring = (*self._ring[:start], *words, *self._ring[start + SLOT_SIZE :])

    def _show(self, **changes: Any) -> None:
        """Change the view, the handshakes' part of it taken anew, and tell the watchers if it became another one."""
        controls = tuple(self._controls.values())
        taken = next((each.taken_sequence for each in controls if each.trigger.ack), None)
        status, live = changes.get("status", self.view.status), changes.get("live", self.view.live)
        view = replace(
            self.view,
            **changes,
            trigger_ack=any(each.trigger.ack for each in controls),
            missed_trigger=any(each.trigger.missed for each in controls),
            ring=self._ring,
            slots=self._ring_slots,
            overrun=self._results.overrun,
            shown=self._results.shown,
            valid=live and self._results.valid,
            accepted_sequence=status.last_sequence if taken is None else taken,
        )
        if view == self.view:
            return
        self.view = view
        for watcher in self._watchers:
            watcher(view)


def _is(shown: Shown, sequence: int) -> bool:
    return shown.result.part.sequence == sequence


def _revised(shown: Shown | None, sequence: int, order: GateOrder) -> Shown | None:
    return replace(shown, order=order) if shown is not None and _is(shown, sequence) else shown
