"""What OPC UA clients may do: write the Control group, call three methods, and nothing else."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from asyncua import ua
from asyncua.common.node import Node
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AddressSpace, AttributeService
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from bridge.domain.messages import Command, Reply
from bridge.outputs.opcua.values import VARIANT_TYPES, argument, at_most, node_id, status_code
from bridge.outputs.plc.control_block import ControlField, ControlValue
from bridge.outputs.plc.node_map import METHODS, STRING_LIMIT, MethodSpec
from bridge.outputs.plc.panel import PlcPanel

ANSWER_TIMEOUT_S = 5.0
MAX_OPERATIONS = 5_000

Place = tuple[PlcPanel, ControlField]
Answer = list[ua.Variant] | ua.StatusCode


class ControlAttributes(AttributeService):
    """Check writes value by value and hand what one Write call wrote to the panels, all at once."""

    def __init__(self, space: AddressSpace, *, places: Mapping[ua.NodeId, Place], clock_ns: Callable[[], int]) -> None:
        super().__init__(space)
        self._places = places
        self._clock_ns = clock_ns

    def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Answer a Read from one state; raises ServiceError for one that would hold up the others."""
        at_most(MAX_OPERATIONS, len(params.NodesToRead))
        return super().read(params)

    async def write(self, params: ua.WriteParameters, user: User = User(role=UserRole.Admin)) -> list[ua.StatusCode]:  # noqa: B008 - the library's signature
        """Write what is right and answer for each value; a refused value changes nothing."""
        at_most(MAX_OPERATIONS, len(params.NodesToWrite))
        refused = [self._refusal(each) if user.role is not UserRole.Admin else None for each in params.NodesToWrite]
        accepted = [_never_null(each) for each, code in zip(params.NodesToWrite, refused, strict=True) if code is None]
        codes = iter(await super().write(ua.WriteParameters(NodesToWrite=accepted), user))
        answers = [next(codes) if code is None else status_code(code) for code in refused]
        self._hand_over([each for each, code in zip(params.NodesToWrite, answers, strict=True) if code.is_good()])
        return answers

    def _refusal(self, each: ua.WriteValue) -> int | None:
        """Give the status code by which a value can't be written, None when the library may go on."""
        place = self._places.get(each.NodeId)
        if place is None or each.AttributeId != AttributeIds.Value:
            return None
        status, variant = each.Value.StatusCode, each.Value.Value
        if each.IndexRange or (status is not None and not status.is_good()):
            return int(StatusCodes.BadWriteNotSupported)
        kind = VARIANT_TYPES[place[1].ua_type or "Boolean"]
        if variant is None or variant.VariantType is not kind or variant.is_array or variant.Value is None:
            return None if _is_null_text(variant, kind) else int(StatusCodes.BadTypeMismatch)
        value = variant.Value
        if isinstance(value, float) and not (math.isnan(value) or 0.0 <= value < math.inf):
            return int(StatusCodes.BadOutOfRange)
        if isinstance(value, str) and len(value.encode(errors="replace")) > STRING_LIMIT:
            return int(StatusCodes.BadOutOfRange)
        return None

    def _hand_over(self, written: list[ua.WriteValue]) -> None:
        by_panel: dict[int, tuple[PlcPanel, dict[str, ControlValue]]] = {}
        for each in written:
            place = self._places.get(each.NodeId)
            if place is None or each.AttributeId != AttributeIds.Value or each.Value.Value is None:
                continue
            panel, control = place
            value = each.Value.Value.Value
            by_panel.setdefault(id(panel), (panel, {}))[1][control.key] = "" if value is None else value
        for panel, values in by_panel.values():
            panel.control("opcua", values, now_ns=self._clock_ns())


def _never_null(each: ua.WriteValue) -> ua.WriteValue:
    """Put an empty text in the place of a null one."""
    variant = each.Value.Value
    if not _is_null_text(variant, ua.VariantType.String):
        return each
    return replace(each, Value=replace(each.Value, Value=ua.Variant("", ua.VariantType.String)))


def _is_null_text(variant: ua.Variant | None, kind: ua.VariantType) -> bool:
    """Whether it is a null String, which some clients send for an empty one."""
    is_text = variant is not None and variant.VariantType is kind and kind is ua.VariantType.String
    return is_text and variant is not None and variant.Value is None and not variant.is_array


async def add_methods(station: Node, panel: PlcPanel, *, root: str, index: int) -> None:
    """Add the methods of one station to its object."""
    calls: Mapping[str, Callable[..., Awaitable[Answer]]] = {
        "SelectRecipe": lambda name: _select_recipe(panel, name),
        "ResetCounters": lambda: _reset_counters(panel),
        "GetResult": lambda sequence: _get_result(panel, sequence),
    }
    for spec in METHODS:
        await station.add_method(
            node_id(f"{root}.{spec.name}", index),
            ua.QualifiedName(spec.name, index),
            _checked(spec, calls[spec.name]),
            [argument(*each) for each in spec.inputs],
            [argument(*each) for each in spec.outputs],
        )


def _checked(spec: MethodSpec, call: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Any]]:
    """Check number and types of a call's arguments before it is made; the answer is the standard's for each fault."""

    async def method(_parent: ua.NodeId, *arguments: ua.Variant) -> Any:
        if len(arguments) != len(spec.inputs):
            short = len(arguments) < len(spec.inputs)
            return status_code(StatusCodes.BadArgumentsMissing if short else StatusCodes.BadTooManyArguments)
        faults = [
            each.VariantType is not VARIANT_TYPES[kind] or each.is_array or each.Value is None
            for each, (_, kind, _) in zip(arguments, spec.inputs, strict=True)
        ]
        if any(faults):
            results = [status_code(StatusCodes.BadTypeMismatch if bad else StatusCodes.Good) for bad in faults]
            return ua.CallMethodResult(
                StatusCode=status_code(StatusCodes.BadInvalidArgument), InputArgumentResults=results
            )
        return await call(*(each.Value for each in arguments))

    return method


async def _select_recipe(panel: PlcPanel, name: str) -> Answer:
    reply = await ask(
        panel, lambda respond: Command(name="select-recipe", origin="opcua", recipe=name, respond=respond)
    )
    reply = reply or Reply(ok=False, text=f"no answer from the station within {ANSWER_TIMEOUT_S:.0f} s")
    return [ua.Variant(reply.ok, ua.VariantType.Boolean), ua.Variant(reply.text, ua.VariantType.String)]


async def _reset_counters(panel: PlcPanel) -> Answer:
    reply = await ask(panel, lambda respond: Command(name="reset-counters", origin="opcua", respond=respond))
    return [] if reply is not None and reply.ok else status_code(StatusCodes.BadInvalidState)


async def _get_result(panel: PlcPanel, sequence: int) -> Answer:
    document = panel.result_document(sequence)
    if document is None:
        return status_code(StatusCodes.BadNoData)
    return [ua.Variant(document, ua.VariantType.String)]


async def ask(
    panel: PlcPanel, command: Callable[[Callable[[Reply], None]], Command], *, timeout_s: float = ANSWER_TIMEOUT_S
) -> Reply | None:
    """Post a command and wait for the station's answer, which comes from another thread; None when it gives none."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Reply] = loop.create_future()

    def settle(reply: Reply) -> None:
        if not answer.done():
            answer.set_result(reply)

    def respond(reply: Reply) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, reply)

    panel.post(command(respond))
    try:
        return await asyncio.wait_for(answer, timeout_s)
    except TimeoutError:
        return None
