"""Structures of OPC 40100-1, made of results and recipes and read from arguments.

Their classes come into the library with the nodeset, so they are named by text.
"""

from __future__ import annotations

from typing import Any

from asyncua import ua

from bridge import __version__
from bridge.outputs.plc.node_map import utc
from bridge.outputs.vision.results import RecipeIdentity, VisionResult

CONFIGURATION = "linegate"
_STRUCTURE, _BOOLEAN = ua.VariantType.ExtensionObject, ua.VariantType.Boolean


def structure(name: str, **fields: Any) -> Any:
    """Make a structure of the specification by its name."""
    return getattr(ua, name)(**fields)


def text_of(value: Any) -> str:
    """Give the Id of an identification, empty where there is none."""
    found = getattr(value, "Id", None)
    return str(found) if found else ""


def job_id(text: str) -> Any:
    """Make a JobIdDataType."""
    return structure("JobIdDataType", Id=text)


def recipe_ids(recipe: RecipeIdentity) -> tuple[Any, Any]:
    """Give a recipe's external and internal identification; the hash is the model bundle's SHA-256."""
    content = {
        "Hash": bytes.fromhex(recipe.sha256) if recipe.sha256 else None,
        "HashAlgorithm": "SHA-256" if recipe.sha256 else None,
        "Description": ua.LocalizedText(recipe.model) if recipe.model else None,
    }
    version = recipe.revision or None
    return (
        structure("RecipeIdExternalDataType", Id=recipe.name, Version=version, **content),
        structure("RecipeIdInternalDataType", Id=recipe.reference, Version=version, **content),
    )


def configuration_id() -> Any:
    """Name the one configuration there is: the software that runs."""
    return structure("ConfigurationIdDataType", Id=CONFIGURATION, Version=__version__)


def result_structure(result: VisionResult) -> Any:
    """Make a ResultDataType; its content is the JSON verdict."""
    parts = _parts(result)
    return structure(
        "ResultDataType", **parts | {"ResultContent": [ua.Variant(result.document, ua.VariantType.String)]}
    )


def result_fields(result: VisionResult) -> dict[str, tuple[Any, ua.VariantType]]:
    """Give the fields of a ResultReady event, in the types that they have there."""
    kinds = {
        "IsPartial": _BOOLEAN,
        "IsSimulated": _BOOLEAN,
        "ResultState": ua.VariantType.Int32,
        "CreationTime": ua.VariantType.DateTime,
    }
    parts = _parts(result)
    del parts["HasTransferableDataOnFile"]
    content = [ua.Variant(result.document, ua.VariantType.String)]
    fields = {name: (value, kinds.get(name, _STRUCTURE)) for name, value in parts.items()}
    return fields | {"ResultContent": (content, ua.VariantType.Variant)}


def result_components(result: VisionResult | None) -> list[ua.Variant]:
    """Give what GetResultComponentsById answers between its first argument and its error; empty without a result."""
    if result is None:
        none = [ua.Variant(None, _STRUCTURE)]
        head = [ua.Variant(False), ua.Variant(0, ua.VariantType.UInt32), ua.Variant(False), ua.Variant(False)]
        middle = [ua.Variant(0, ua.VariantType.Int32), *none * 8, ua.Variant(utc(0), ua.VariantType.DateTime)]
        return [*head, *middle, *none, ua.Variant([], ua.VariantType.Variant, is_array=True)]
    fields = result_fields(result)
    order = (
        "IsPartial", "IsSimulated", "ResultState", "MeasId", "PartId", "ExternalRecipeId", "InternalRecipeId", "ProductId",
        "ExternalConfigurationId", "InternalConfigurationId", "JobId", "CreationTime", "ProcessingTimes", "ResultContent",
    )  # fmt: skip
    return [
        ua.Variant(False),
        ua.Variant(0, ua.VariantType.UInt32),
        *(ua.Variant(*fields[name]) for name in order),
    ]


def _parts(result: VisionResult) -> dict[str, Any]:
    external, internal = recipe_ids(result.recipe)
    times = structure(
        "ProcessingTimesDataType",
        StartTime=utc(result.triggered_utc_ns),
        EndTime=utc(result.decided_utc_ns),
        ProcessingDuration=float(result.processing_ms),
    )
    return {
        "ResultId": structure("ResultIdDataType", Id=result.result_id),
        "HasTransferableDataOnFile": False,
        "IsPartial": False,
        "IsSimulated": False,
        "ResultState": result.state,
        "MeasId": structure("MeasIdDataType", Id=result.job.meas_id) if result.job.meas_id else None,
        "PartId": structure("PartIdDataType", Id=result.part_id),
        "ExternalRecipeId": external,
        "InternalRecipeId": internal,
        "ProductId": structure("ProductIdDataType", Id=result.job.product_id) if result.job.product_id else None,
        "ExternalConfigurationId": None,
        "InternalConfigurationId": configuration_id(),
        "JobId": job_id(result.job.job_id),
        "CreationTime": utc(result.decided_utc_ns),
        "ProcessingTimes": times,
    }
