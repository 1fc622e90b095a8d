"""Run IEC 61131-3 Structured Text: blark parses it, this turns what it found into Python closures.

As strict as the strictest controller: no type is converted by itself (a bare number takes the type beside it), AND and OR
evaluate both sides, and a result outside the range of its type is an error, so what runs here needs no overflow to wrap.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import blark.transform as st
from blark.parse import parse_source_code

Frame = dict[str, Any]
Evaluate = Callable[[Frame], Any]
RANGES = {
    "WORD": (0, 2**16 - 1), "UINT": (0, 2**16 - 1), "UDINT": (0, 2**32 - 1), "DINT": (-(2**31), 2**31 - 1),
    "INT": (-(2**15), 2**15 - 1),
}  # fmt: skip
NUMBER, FRACTION = "a bare number", "a bare fraction"
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
COMPARISONS = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip


class StructuredTextError(Exception):
    """What a compiler would refuse, or a controller would not do alike everywhere."""


@dataclass(frozen=True)
class ArrayOf:
    """ARRAY[low..high] OF element."""

    low: int
    high: int
    element: Any


@dataclass
class Unit:
    """A STRUCT, FUNCTION or FUNCTION_BLOCK: its variables by lower-case name with type and first value, and its code."""

    name: str
    types: dict[str, Any] = field(default_factory=dict)
    initial: dict[str, Any] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    in_outs: set[str] = field(default_factory=set)
    returns: str | None = None
    source: Any = None
    run: Callable[[Frame], None] | None = None

    def fresh(self) -> Frame:
        """Give new variables with their first values."""
        return {name: new_value(kind, self.initial.get(name)) for name, kind in self.types.items()}


def new_value(kind: Any, first: Any = None) -> Any:
    """Give the first value of a variable."""
    if isinstance(kind, ArrayOf):
        return [new_value(kind.element) for _ in range(kind.high - kind.low + 1)]
    if isinstance(kind, Unit):
        return kind.fresh()
    return first if first is not None else {"BOOL": False, "LREAL": 0.0}.get(kind, 0)


def copied(kind: Any, value: Any) -> Any:
    """Copy a value as an assignment does."""
    if isinstance(kind, ArrayOf):
        return list(value) if isinstance(kind.element, str) else [copied(kind.element, each) for each in value]
    if isinstance(kind, Unit):
        return {name: copied(each, value[name]) for name, each in kind.types.items()}
    return value


def checked(kind: str, value: Any) -> Any:
    """Refuse a value outside the range of its type."""
    if kind in RANGES:
        low, high = RANGES[kind]
        if not low <= value <= high:
            raise StructuredTextError(f"{value} is no {kind}")
    elif kind == "LREAL" and not math.isfinite(value):
        raise StructuredTextError(f"{value} is no finite LREAL")
    return value


class Instance:
    """A function block with a memory; `call` sets inputs and runs it once."""

    def __init__(self, unit: Unit) -> None:
        self.unit, self.frame = unit, unit.fresh()

    def call(self, **inputs: Any) -> None:
        """Run once; inputs keep their values between calls."""
        for name, value in inputs.items():
            if name.lower() not in self.unit.inputs:
                raise StructuredTextError(f"{self.unit.name} has no input {name}")
            kind = self.unit.types[name.lower()]
            self.frame[name.lower()] = checked(kind, value) if isinstance(kind, str) else copied(kind, value)
        assert self.unit.run is not None
        self.unit.run(self.frame)

    def __getitem__(self, name: str) -> Any:
        return self.frame[name.lower()]


class Library:
    """All types, functions and function blocks of one text."""

    def __init__(self, text: str) -> None:
        self.units: dict[str, Unit] = {}
        bodies = []
        for item in parse_source_code(text).transform().items:
            if isinstance(item, st.DataTypeDeclaration) and isinstance(item.declaration, st.StructureTypeDeclaration):
                self._structure(item.declaration)
            elif isinstance(item, st.Function | st.FunctionBlock):
                bodies.append(self._declare(item))
        for unit in bodies:
            unit.run = Body(self, unit).block(unit.source)

    def new(self, name: str) -> Instance:
        """Give an instance of a function block."""
        return Instance(self.units[name.lower()])

    def function(self, name: str) -> Callable[..., Any]:
        """Give a function as a callable with positional arguments."""
        unit = self.units[name.lower()]

        def call(*arguments: Any) -> Any:
            frame = unit.fresh()
            frame.update(zip(unit.inputs, arguments, strict=True))
            assert unit.run is not None
            unit.run(frame)
            return frame[unit.name.lower()]

        return call

    def struct(self, name: str, **members: Any) -> Frame:
        """Give a structure with some members set."""
        return {**self.units[name.lower()].fresh(), **{key.lower(): value for key, value in members.items()}}

    def _structure(self, declaration: Any) -> None:
        unit = Unit(name=str(declaration.name))
        for each in declaration.declarations:
            self._variables(unit, each)
        self.units[unit.name.lower()] = unit

    def _declare(self, item: Any) -> Unit:
        unit = Unit(name=str(item.name), source=item.body)
        self.units[unit.name.lower()] = unit
        for block in item.declarations:
            before = set(unit.types)
            for each in block.items:
                self._variables(unit, each)
            added = [name for name in unit.types if name not in before]
            if isinstance(block, st.InputDeclarations | st.InputOutputDeclarations):
                unit.inputs += added
            if isinstance(block, st.InputOutputDeclarations):
                unit.in_outs.update(added)
        if isinstance(item, st.Function):
            unit.returns = unit.types[unit.name.lower()] = str(item.return_type.type)
        return unit

    def _variables(self, unit: Unit, declaration: Any) -> None:
        init = declaration.init
        kind = self._type(init.spec)
        for each in declaration.variables:
            name = str(each.variable.name).lower()
            if name in unit.types:
                raise StructuredTextError(f"{unit.name} declares {name} twice")
            unit.types[name] = kind
            if init.value is not None:
                unit.initial[name] = constant(init.value, kind)

    def _type(self, spec: Any) -> Any:
        if isinstance(spec, st.ArraySpecification):
            (bounds,) = spec.subranges
            return ArrayOf(int(bounds.start.value), int(bounds.stop.value), self._type(spec.type))
        name = spec
        while not isinstance(name, str):
            name = name.type if hasattr(name, "type") else name.type_name
        if (unit := self.units.get(name.lower())) is not None:
            return unit
        if name.upper() not in {*RANGES, "BOOL", "LREAL"}:
            raise StructuredTextError(f"{name} is no type")
        return name.upper()


def constant(literal: Any, kind: Any) -> Any:
    """Give a literal's value as the type asks for it."""
    value = (
        float(literal.value) if isinstance(literal, st.Real) else int(str(literal.value).replace("_", ""), literal.base)
    )
    return float(value) if kind == "LREAL" else checked(kind, value)


class Body:
    """Compile the statements of one unit."""

    def __init__(self, library: Library, unit: Unit) -> None:
        self._library, self._unit = library, unit

    def block(self, statements: Any) -> Callable[[Frame], None]:
        """Compile a list of statements."""
        steps = [self._statement(each) for each in statements.statements]

        def run(frame: Frame) -> None:
            for step in steps:
                step(frame)

        return run

    def _statement(self, statement: Any) -> Callable[[Frame], None]:
        if isinstance(statement, st.AssignmentStatement):
            (target,) = statement.variables
            return self._assignment(target, statement.expression)
        if isinstance(statement, st.IfStatement):
            return self._if(statement)
        if isinstance(statement, st.ForStatement):
            return self._for(statement)
        raise StructuredTextError(f"{type(statement).__name__} is not known here")

    def _assignment(self, target: Any, expression: Any) -> Callable[[Frame], None]:
        kind, _, put = self.place(target)
        value = self.typed(expression, kind)
        return lambda frame: put(frame, copied(kind, value(frame)))

    def _if(self, statement: Any) -> Callable[[Frame], None]:
        branches = [(statement.if_expression, statement.statements)]
        branches += [(each.if_expression, each.statements) for each in statement.else_ifs]
        tests = [(self.typed(condition, "BOOL"), self.block(then)) for condition, then in branches]
        otherwise = None if statement.else_clause is None else self.block(statement.else_clause.statements)

        def run(frame: Frame) -> None:
            for test, then in tests:
                if test(frame):
                    then(frame)
                    return
            if otherwise is not None:
                otherwise(frame)

        return run

    def _for(self, statement: Any) -> Callable[[Frame], None]:
        kind, _, put = self.place(statement.control)
        first, last = self.typed(statement.from_, kind), self.typed(statement.to, kind)
        body = self.block(statement.statements)

        def run(frame: Frame) -> None:
            for value in range(first(frame), last(frame) + 1):
                put(frame, value)
                body(frame)

        return run

    def place(self, variable: Any) -> tuple[Any, Evaluate, Callable[[Frame, Any], None]]:
        """Compile a variable: its type, how to read it, how to write it."""
        if isinstance(variable, st.SimpleVariable):
            name = str(variable.name).lower()
            return (
                self._named(name),
                operator.itemgetter(name),
                lambda frame, value: operator.setitem(frame, name, value),
            )
        name = str(variable.name.name).lower()
        kind, *steps = self._named(name), *variable.elements
        keys: list[Evaluate] = []
        for step in steps:
            kind, key = self._step(kind, step)
            keys.append(key)
        *way, last = keys

        def container(frame: Frame) -> Any:
            at = frame[name]
            for key in way:
                at = at[key(frame)]
            return at

        def put(frame: Frame, value: Any) -> None:
            container(frame)[last(frame)] = value

        return kind, lambda frame: container(frame)[last(frame)], put

    def _step(self, kind: Any, step: Any) -> tuple[Any, Evaluate]:
        if isinstance(step, st.SubscriptList):
            (subscript,) = step.subscripts
            index, low, high = self.typed(subscript, "INT"), kind.low, kind.high

            def key(frame: Frame) -> int:
                at = index(frame)
                if not low <= at <= high:
                    raise StructuredTextError(f"index {at} is outside {low}..{high}")
                return int(at - low)

            return kind.element, key
        name = str(step.field.name).lower()
        return kind.types[name], lambda _frame: name

    def _named(self, name: str) -> Any:
        try:
            return self._unit.types[name]
        except KeyError as exc:
            raise StructuredTextError(f"{self._unit.name} has no variable {name}") from exc

    def typed(self, expression: Any, kind: Any) -> Evaluate:
        """Compile an expression that must have a type."""
        found, value = self.expression(expression)
        if found == NUMBER and kind in RANGES:
            bare = checked(kind, value({}))
            return lambda _frame: bare
        if found == FRACTION and kind == "LREAL":
            return value
        if found is not kind and found != kind:
            raise StructuredTextError(f"{self._unit.name}: {expression} is {found}, not {kind}")
        return value

    def expression(self, expression: Any) -> tuple[Any, Evaluate]:
        """Compile an expression: its type and how to evaluate it."""
        if isinstance(expression, st.ParenthesizedExpression):
            return self.expression(expression.expr)
        if isinstance(expression, st.Boolean):
            truth = str(expression.value).upper() == "TRUE"
            return "BOOL", lambda _frame: truth
        if isinstance(expression, st.Real):
            fraction = float(expression.value)
            return FRACTION, lambda _frame: fraction
        if isinstance(expression, st.Integer | st.BitString):
            kind = NUMBER if expression.type_name is None else str(expression.type_name).upper()
            value = checked(kind, int(str(expression.value).replace("_", ""), expression.base))
            return kind, lambda _frame: value
        if isinstance(expression, st.UnaryOperation):
            return self._unary(expression)
        if isinstance(expression, st.BinaryOperation):
            return self._binary(expression)
        if isinstance(expression, st.FunctionCall):
            return self._call(expression)
        kind, get, _ = self.place(expression)
        return kind, get

    def _unary(self, expression: Any) -> tuple[Any, Evaluate]:
        kind, value = self.expression(expression.expr)
        if str(expression.op).upper() == "NOT":
            if kind != "BOOL":
                raise StructuredTextError(f"NOT {kind}")
            return kind, lambda frame: not value(frame)
        if kind not in ("INT", "DINT", "LREAL", NUMBER, FRACTION):
            raise StructuredTextError(f"-{kind}")
        return kind, lambda frame: checked(kind, -value(frame))

    def _binary(self, expression: Any) -> tuple[Any, Evaluate]:
        kind, left, right = self._sides(expression)
        sign = str(expression.op).upper()
        if sign in ("AND", "OR"):
            if kind not in ("BOOL", "WORD"):
                raise StructuredTextError(f"{kind} {sign}")
            both = operator.and_ if sign == "AND" else operator.or_
            return kind, lambda frame: both(left(frame), right(frame))
        if sign in COMPARISONS:
            compare = COMPARISONS[sign]
            return "BOOL", lambda frame: compare(left(frame), right(frame))
        if kind in ("BOOL", "WORD") or not isinstance(kind, str):
            raise StructuredTextError(f"{kind} {sign} {kind}")
        if sign in ARITHMETIC:
            combine = ARITHMETIC[sign]
            return kind, lambda frame: checked(kind, combine(left(frame), right(frame)))
        return kind, self._divided(sign, kind, left, right)

    def _divided(self, sign: str, kind: str, left: Evaluate, right: Evaluate) -> Evaluate:
        if sign == "/" and kind == "LREAL":
            return lambda frame: checked(kind, left(frame) / right(frame))
        if sign == "/":
            return lambda frame: (
                int(math.copysign(1, left(frame) * right(frame))) * (abs(left(frame)) // abs(right(frame)))
            )
        if sign == "MOD" and kind in RANGES:
            return lambda frame: int(math.copysign(1, left(frame))) * (abs(left(frame)) % abs(right(frame)))
        raise StructuredTextError(f"{kind} {sign}")

    def _sides(self, expression: Any) -> tuple[Any, Evaluate, Evaluate]:
        left, right = self.expression(expression.left), self.expression(expression.right)
        kind = left[0] if left[0] not in (NUMBER, FRACTION) else right[0]
        return kind, self.typed(expression.left, kind), self.typed(expression.right, kind)

    def _call(self, expression: Any) -> tuple[Any, Evaluate]:
        name = str(expression.name.name)
        given = expression.parameters
        if "_TO_" in name:
            return self._conversion(name, given[0].value)
        if name.upper() == "ABS":
            kind, value = self.expression(given[0].value)
            return kind, lambda frame: checked(kind, abs(value(frame)))
        unit = self._library.units[name.lower()]
        names = [str(each.name.name).lower() for each in given]
        if sorted(names) != sorted(unit.inputs):
            raise StructuredTextError(f"{name} takes {unit.inputs}, not {names}")
        values = [
            (each, self.typed(p.value, unit.types[each]), unit.types[each])
            for each, p in zip(names, given, strict=True)
        ]

        def call(frame: Frame) -> Any:
            own = unit.fresh()
            for each, value, kind in values:
                found = value(frame)
                own[each] = found if each in unit.in_outs else copied(kind, found)
            assert unit.run is not None
            unit.run(own)
            return own[name.lower()]

        return unit.returns, call

    def _conversion(self, name: str, argument: Any) -> tuple[str, Evaluate]:
        source, target = name.upper().split("_TO_")
        value = self.typed(argument, source)
        if target == "LREAL":
            return target, lambda frame: float(value(frame))
        if source == "LREAL":
            return target, lambda frame: checked(target, round(value(frame)))
        return target, lambda frame: checked(target, value(frame))
