"""Values of the node map as OPC UA carries them: variant types, status codes, units, time stamps."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from bridge.outputs.plc.node_map import UNITS, Quality, Value

VARIANT_TYPES: dict[str, ua.VariantType] = {
    "Boolean": ua.VariantType.Boolean,
    "UInt16": ua.VariantType.UInt16,
    "UInt32": ua.VariantType.UInt32,
    "Double": ua.VariantType.Double,
    "String": ua.VariantType.String,
    "DateTime": ua.VariantType.DateTime,
    "VerdictEnum": ua.VariantType.Int32,
    "DispositionEnum": ua.VariantType.Int32,
}


def node_id(path: str, index: int) -> ua.NodeId:
    """Give a node id of this server: a string in its own namespace."""
    return ua.NodeId(ua.String(path), ua.Int16(index))


def standard_id(number: int) -> ua.NodeId:
    """Give a node id of the standard's own namespace."""
    return ua.NodeId(ua.Int32(number))


def status_code(number: int) -> ua.StatusCode:
    """Wrap a number of the library's StatusCodes."""
    return ua.StatusCode(ua.UInt32(number))


def at_most(limit: int, operations: int) -> None:
    """Raise ServiceError BadTooManyOperations for a request that asks for more than `limit` at once."""
    if operations > limit:
        raise ServiceError(int(StatusCodes.BadTooManyOperations))


DATA_TYPES: dict[str, ua.NodeId] = {
    "Boolean": standard_id(ObjectIds.Boolean),
    "UInt16": standard_id(ObjectIds.UInt16),
    "UInt32": standard_id(ObjectIds.UInt32),
    "Double": standard_id(ObjectIds.Double),
    "String": standard_id(ObjectIds.String),
    "DateTime": standard_id(ObjectIds.DateTime),
}
STATUS_CODES: dict[Quality, ua.StatusCode] = {
    Quality.GOOD: status_code(StatusCodes.Good),
    Quality.UNCERTAIN_INITIAL: status_code(StatusCodes.UncertainInitialValue),
    Quality.WAITING: status_code(StatusCodes.BadWaitingForInitialData),
    Quality.OUT_OF_SERVICE: status_code(StatusCodes.BadOutOfService),
}
_NULL = ua.Variant(None, ua.VariantType.Null)


def variant(value: Value, data_type: str) -> ua.Variant:
    """Wrap a value in the variant of its declared type."""
    plain = list(value) if isinstance(value, tuple) else value
    return ua.Variant(plain, VARIANT_TYPES[data_type])


def data_value(value: Value, data_type: str, quality: Quality, *, source: datetime, server: datetime) -> ua.DataValue:
    """Build what a Read answers; a value of Bad quality is null, as the standard asks."""
    bad = quality in {Quality.WAITING, Quality.OUT_OF_SERVICE}
    return ua.DataValue(
        Value=_NULL if bad else variant(value, data_type),
        StatusCode=STATUS_CODES[quality],
        SourceTimestamp=cast("ua.DateTime", source),
        ServerTimestamp=cast("ua.DateTime", server),
    )


def engineering_unit(code: str) -> ua.EUInformation:
    """Describe a unit by its code in UN/CEFACT recommendation 20."""
    symbol, name = UNITS[code]
    return ua.EUInformation(
        NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
        UnitId=int.from_bytes(code.encode(), "big"),
        DisplayName=ua.LocalizedText(symbol),
        Description=ua.LocalizedText(name),
    )


def argument(name: str, data_type: str, text: str) -> ua.Argument:
    """Describe one argument of a method."""
    return ua.Argument(
        Name=name,
        DataType=DATA_TYPES[data_type],
        ValueRank=-1,
        ArrayDimensions=[],
        Description=ua.LocalizedText(text),
    )
