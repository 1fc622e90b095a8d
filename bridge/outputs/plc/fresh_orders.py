"""Which gate orders may be sent to a PLC that the bridge writes into, decided anew at the moment of sending.

A PLC that polls asks for what holds now; one that is written to takes whatever comes as new. So:
- An order goes out as valid only by its publish limit, due less `output_ms`. Later it goes out as missed: do not fire.
- One that the PLC took in time stands as it is told from then on, on the same connection. A new connection knows of
  nothing: what is past its limit goes out as missed, whether or not an earlier connection had brought it.
- An answer that comes after the order was due proves nothing: the PLC may have got it late, so it is sent again, as missed.
- An order that no connection got to the PLC in time is told, once, to whoever reports it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from bridge.domain.gate import GateOrder
from bridge.domain.gate_track import PartKey
from bridge.outputs.plc.view import PlcView, Shown

Place = Literal["ring", "shown", "newest"]
"""Where an order stands: in its ring slot, with the result that is shown, or as the newest one."""
NOT_IN_TIME = "the PLC did not get it in time"


@dataclass(slots=True)
class _Sent:
    state: Literal["offered", "taken", "withheld"]
    due_ns: int | None


class FreshOrders:
    """Keep what one PLC was sent in these places; `output_ms` is the worst time from there to the switched output."""

    def __init__(self, *, output_ms: float, places: Collection[Place]) -> None:
        self._places = frozenset(places)
        self._output_ns = round(output_ms * 1_000_000)
        self._sent: dict[tuple[Place, PartKey], _Sent] = {}
        self._arrived: set[PartKey] = set()
        self._told: set[PartKey] = set()

    def view(self, view: PlcView, now_ns: int, *, begun_ns: int | None = None) -> PlcView:
        """Give what may be sent of `view` at this moment. `ring` is left as it is: encode `slots` instead.

        The rest of a write that began at `begun_ns` is judged by that moment, unless it takes longer than `output_ms`
        foresees: so that slot and registers of one result say the same.
        """
        if begun_ns is not None and now_ns - begun_ns <= self._output_ns:
            now_ns = begun_ns
        standing = {_key(each) for each in (view.shown, view.newest, *view.slots) if each is not None}
        self._sent = {place: sent for place, sent in self._sent.items() if place[1] in standing}
        return replace(
            view,
            shown=self._fresh("shown", view.shown, now_ns),
            newest=self._fresh("newest", view.newest, now_ns),
            slots=tuple(self._fresh("ring", each, now_ns) for each in view.slots),
        )

    def answered(self, place: Place, shown: Shown | None, now_ns: int) -> bool:
        """Take that the PLC has one result in one place; gives False when it may have got its order late."""
        sent = None if shown is None else self._sent.get((place, _key(shown)))
        if shown is None or sent is None or sent.state != "offered":
            return True
        if sent.due_ns is not None and now_ns > sent.due_ns:
            sent.state = "withheld"
            return False
        sent.state = "taken"
        self._arrived.add(_key(shown))
        return True

    def __len__(self) -> int:
        return len(self._sent) + len(self._arrived) + len(self._told)

    def lost(self) -> None:
        """Forget what the connection brought; a PLC that comes back may know of nothing."""
        self._sent.clear()

    def undelivered(self, view: PlcView, now_ns: int) -> tuple[tuple[PartKey, ...], int | None]:
        """Give the parts whose orders can't arrive in time any more, each once, and when to ask again."""
        orders = {_key(each): each.order for each in view.slots if each is not None}
        for known in (self._arrived, self._told):
            known.intersection_update(orders)
        open_ = {key: order.due_ns - self._output_ns for key, order in orders.items()
                 if order.state == "ordered" and order.due_ns is not None and not self._settled(key)}  # fmt: skip
        late = tuple(key for key, limit_ns in open_.items() if now_ns > limit_ns)
        self._told.update(late)
        return late, min((limit_ns for key, limit_ns in open_.items() if key not in late), default=None)

    def _settled(self, key: PartKey) -> bool:
        """Whether there is nothing to tell of a part: it arrived, was told, or its answer is still out."""
        offered = any(sent.state == "offered" for (_, each), sent in self._sent.items() if each == key)
        return key in self._arrived or key in self._told or offered

    def _fresh(self, place: Place, shown: Shown | None, now_ns: int) -> Shown | None:
        if shown is None or shown.order.state != "ordered" or place not in self._places:
            return shown
        order = self._order(place, shown, now_ns)
        return shown if order is shown.order else replace(shown, order=order)

    def _order(self, place: Place, shown: Shown, now_ns: int) -> GateOrder:
        due_ns, key = shown.order.due_ns, _key(shown)
        known = self._sent.get((place, key))
        if known is not None and known.state == "taken":
            return shown.order
        if known is not None and known.state == "withheld":
            return _missed(shown.order)
        if due_ns is not None and now_ns > due_ns - self._output_ns:
            self._sent[place, key] = _Sent("withheld", due_ns)
            if known is not None:  # it was on its way in time: its slot may have come, what announces it will not
                self._arrived.discard(key)
            return _missed(shown.order)
        self._sent[place, key] = _Sent("offered", due_ns)
        return shown.order


def _missed(order: GateOrder) -> GateOrder:
    return replace(order, state="missed", reason=NOT_IN_TIME, due_ns=None, open_ns=None, off_ns=None)


def _key(shown: Shown) -> PartKey:
    part = shown.result.part
    return part.epoch, part.sequence
