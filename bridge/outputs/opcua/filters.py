"""Which events a subscriber wants, by the content filter of OPC UA part 4, 7.7: three-valued, and bounded.

The library's own reading of it raises for what an event doesn't have, and knows no subtypes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

MAX_ELEMENTS = 100
MAX_FIELDS = 200
_NULL = ua.Variant(None, ua.VariantType.Null)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One event, ready to be told. `fields` are by browse path, such as `Verdict` or `ActiveState/Id`.

    `sources` are the nodes at which it can be heard, `types` its type and those that this derives from. `condition` is
    the alarm's own id.
    """

    sources: tuple[ua.NodeId, ...]
    types: frozenset[ua.NodeId]
    fields: Mapping[str, ua.Variant]
    condition: ua.NodeId | None = None

    def select(self, operand: Any) -> ua.Variant:
        """Give what a select clause asks for; null when the event doesn't have it. Namespaces of names don't count."""
        path = getattr(operand, "BrowsePath", None)
        if path:
            return self.fields.get("/".join(str(each.Name) for each in path), _NULL)
        if getattr(operand, "AttributeId", None) == AttributeIds.NodeId and self.condition is not None:
            return ua.Variant(self.condition, ua.VariantType.NodeId)
        return _NULL


def is_legible(clauses: ua.ContentFilter) -> bool:
    """Whether a filter can be worked out: elements refer to later ones alone, so that none refers to itself."""
    elements = clauses.Elements or []
    if len(elements) > MAX_ELEMENTS:
        return False
    return all(
        _OPERANDS.get(each.FilterOperator, _NEVER)[0] <= len(each.FilterOperands or []) <= MAX_ELEMENTS
        and all(_is_operand(one, place, len(elements)) for one in each.FilterOperands)
        for place, each in enumerate(elements)
    )


def _is_operand(operand: Any, place: int, count: int) -> bool:
    if isinstance(operand, ua.ElementOperand):
        return bool(place < operand.Index < count)
    return isinstance(operand, (ua.LiteralOperand, ua.SimpleAttributeOperand))


def passes(clauses: ua.ContentFilter, notice: Notice) -> bool:
    """Whether an event is wanted: a filter without elements wants all; what can't be told is not wanted."""
    elements = clauses.Elements or []
    known: list[Any] = [None] * len(elements)
    for place in range(len(elements) - 1, -1, -1):  # each is told from later ones
        operands = (_value(one, notice, known) for one in elements[place].FilterOperands)
        known[place] = _OPERANDS[elements[place].FilterOperator][1](operands, notice)
    return known[0] is True if elements else True


def _value(operand: Any, notice: Notice, known: Sequence[Any]) -> Any:
    if isinstance(operand, ua.ElementOperand):
        return known[operand.Index]
    if isinstance(operand, ua.LiteralOperand):
        return _plain(operand.Value)
    return _plain(notice.select(operand))


def _plain(variant: Any) -> Any:
    value = variant.Value if isinstance(variant, ua.Variant) else variant
    return value.Text if isinstance(value, ua.LocalizedText) else value


Operands = Iterator[Any]


def _compare(how: Callable[[Any, Any], bool]) -> Callable[[Operands, Notice], bool | None]:
    def compare(operands: Operands, _notice: Notice) -> bool | None:
        return _told(how, next(operands), next(operands))

    return compare


def _told(how: Callable[[Any, Any], bool], one: Any, other: Any) -> bool | None:
    """Compare; None where one of them is missing or they can't be compared."""
    if one is None or other is None:
        return None
    try:
        return bool(how(one, other))
    except TypeError:
        return None


def _between(operands: Operands, _notice: Notice) -> bool | None:
    value, low, high = (next(operands) for _ in range(3))
    return _all(iter((_told(operator.ge, value, low), _told(operator.le, value, high))), _notice)


def _in_list(operands: Operands, _notice: Notice) -> bool | None:
    value = next(operands)
    return None if value is None else any(_told(operator.eq, value, each) for each in operands)


def _all(operands: Operands, _notice: Notice) -> bool | None:
    told = list(operands)
    if any(each is False for each in told):
        return False
    return True if all(each is True for each in told) else None


def _any(operands: Operands, _notice: Notice) -> bool | None:
    told = list(operands)
    if any(each is True for each in told):
        return True
    return False if all(each is False for each in told) else None


def _not(operands: Operands, _notice: Notice) -> bool | None:
    value = next(operands)
    return None if not isinstance(value, bool) else not value


def _of_type(operands: Operands, notice: Notice) -> bool:
    wanted = next(operands)
    return isinstance(wanted, ua.NodeId) and wanted in notice.types


_NEVER = (MAX_ELEMENTS + 1, _all)
# Of each operator that is understood: the fewest operands, and how it is told from them.
_OPERANDS: dict[Any, tuple[int, Callable[[Operands, Notice], bool | None]]] = {
    ua.FilterOperator.Equals: (2, _compare(operator.eq)),
    ua.FilterOperator.GreaterThan: (2, _compare(operator.gt)),
    ua.FilterOperator.LessThan: (2, _compare(operator.lt)),
    ua.FilterOperator.GreaterThanOrEqual: (2, _compare(operator.ge)),
    ua.FilterOperator.LessThanOrEqual: (2, _compare(operator.le)),
    ua.FilterOperator.IsNull: (1, lambda operands, _notice: next(operands) is None),
    ua.FilterOperator.Not: (1, _not),
    ua.FilterOperator.And: (2, _all),
    ua.FilterOperator.Or: (2, _any),
    ua.FilterOperator.Between: (3, _between),
    ua.FilterOperator.InList: (2, _in_list),
    ua.FilterOperator.OfType: (1, _of_type),
}
