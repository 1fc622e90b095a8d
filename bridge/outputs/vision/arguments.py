"""Arguments of OPC 40100-1's methods: checked against the nodeset's signatures, and what a job's Parameters may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from bridge.outputs.opcua.values import status_code
from bridge.outputs.plc.view import U16, U32

BASE_DATA_TYPE = int(ObjectIds.BaseDataType)
_PLAIN: Mapping[int, ua.VariantType] = MappingProxyType(
    {3009: ua.VariantType.Int32, 3014: ua.VariantType.Int32, 3018: ua.VariantType.UInt32}
)
"""ResultStateDataType, TriStateBooleanDataType and Handle: data types of the specification that are no structures."""
_BINARY_ID = "BinaryIdBaseDataType"
_STRUCTURES: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        3002: ("RecipeIdExternalDataType", _BINARY_ID),
        3003: ("ProductIdDataType",),
        3004: ("PartIdDataType",),
        3008: ("ConfigurationIdDataType", _BINARY_ID),
        3013: ("RecipeIdInternalDataType", _BINARY_ID),
        3015: ("MeasIdDataType",),
        3016: ("JobIdDataType",),
        3021: ("ResultIdDataType",),
    }
)


def refusal(given: Sequence[ua.Variant], wanted: Sequence[ua.Argument]) -> ua.StatusCode | ua.CallMethodResult | None:
    """Give the standard's answer to arguments of the wrong number or types; None when they are right."""
    if len(given) != len(wanted):
        short = len(given) < len(wanted)
        return status_code(StatusCodes.BadArgumentsMissing if short else StatusCodes.BadTooManyArguments)
    fits = [_fits(each, argument.DataType) for each, argument in zip(given, wanted, strict=True)]
    if all(fits):
        return None
    return ua.CallMethodResult(
        StatusCode=status_code(StatusCodes.BadInvalidArgument),
        InputArgumentResults=[status_code(StatusCodes.Good if fit else StatusCodes.BadTypeMismatch) for fit in fits],
    )


def _fits(given: ua.Variant, data_type: ua.NodeId) -> bool:
    number = int(data_type.Identifier)
    if data_type.NamespaceIndex == 0:
        return number == BASE_DATA_TYPE or (int(given.VariantType.value) == number and not given.is_array)
    if number in _PLAIN:
        return given.VariantType is _PLAIN[number] and not given.is_array
    if given.Value is None or _is_null(given.Value):
        return given.VariantType in (ua.VariantType.ExtensionObject, ua.VariantType.Null)
    # The library makes these classes of the nodeset, those without fields of their own as their base type.
    return not given.is_array and type(given.Value).__name__ in _STRUCTURES.get(number, ())


def _is_null(value: Any) -> bool:
    """Tell whether it is a structure of no type, as which a null one arrives."""
    return isinstance(value, ua.ExtensionObject) and value.Body is None and value.TypeId.is_null()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a client may add to StartSingleJob, in this order: all of them numbers, null or absent for none.

    `sequence` is the trigger's counter (u32), `encoder` the count latched at the photo-eye (u32), `age_ms` how long ago
    the part was there.
    """

    sequence: int | None = None
    encoder: int | None = None
    age_ms: int | None = None


_LIMITS = (("sequence", U32), ("encoder", U32), ("age_ms", U16 - 1))


def parameters_of(given: Any) -> Parameters | None:
    """Read the Parameters of StartSingleJob; None when they are not understood."""
    if given is None:
        return Parameters()
    if not isinstance(given, list) or len(given) > len(_LIMITS):
        return None
    read: dict[str, int | None] = {}
    for each, (name, limit) in zip(given, _LIMITS, strict=False):
        value = each.Value if isinstance(each, ua.Variant) else each
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit):
            return None
        read[name] = value
    return Parameters(**read)
