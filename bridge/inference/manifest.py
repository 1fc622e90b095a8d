"""The manifest of a model bundle, `bundle.toml`, and its golden frames: what they may say, checked to the last key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bridge.domain.recipe import Threshold
from bridge.errors import BundleError

MANIFEST = "bundle.toml"
SIGNATURE = "bundle.sig"
MODEL = "model.onnx"
GOLDEN = "golden/golden.toml"
SEMANTIC_VERSION = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=8, le=8192)]
_T = TypeVar("_T", bound=BaseModel)
TensorName = Annotated[str, Field(min_length=1, max_length=128)]


class _Table(BaseModel):
    """One table of the manifest: an unknown key is a mistake, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class InputSpec(_Table):
    """The one input tensor, and how a picture becomes it. `mean` and `std` are in the model's own colour order."""

    name: TensorName
    width: Side
    height: Side
    channels: Literal[1, 3] = 3
    colour: Literal["RGB", "BGR", "GREY"] = "RGB"
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    dtype: Literal["uint8", "float32"] = "uint8"
    resize: Literal["stretch", "letterbox"] = "stretch"
    interpolation: Literal["linear", "area"] = "linear"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: int = Field(114, ge=0, le=255)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The tensor's fixed shape, batch 1."""
        if self.layout == "NHWC":
            return (1, self.height, self.width, self.channels)
        return (1, self.channels, self.height, self.width)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.colour == "GREY") != (self.channels == 1):
            raise ValueError(
                f"channels = {self.channels} does not suit colour = {self.colour!r}: GREY has 1, the others 3"
            )
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values and len(values) != self.channels:
                raise ValueError(f"{key} has {len(values)} values: allowed is one for each of {self.channels} channels")
            if values and self.dtype == "uint8":
                raise ValueError(f"{key} is set with dtype = 'uint8': a model that takes bytes normalises them itself")
        if any(value == 0 for value in self.std):
            raise ValueError(f"std = {list(self.std)}: a value must not be 0")
        return self


class OutputSpec(_Table):
    """Names of the output tensors: `scores` float32 [1, labels]; `cells` float32 [1, labels, rows, columns]."""

    scores: TensorName = "scores"
    cells: TensorName | None = None


class ThresholdSpec(_Table):
    """Suggested limits of one label; `doubt` is the same as `reject` where it is absent."""

    reject: Share = 0.5
    doubt: Share | None = None
    accept: Share = 0.5
    region: Share = 0.5

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.doubt is not None and self.doubt > self.reject:
            raise ValueError(f"doubt = {self.doubt} lies over reject = {self.reject}: allowed is at most that")
        return self


class Manifest(_Table):
    """What `bundle.toml` says of a model."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
    version: str = Field(pattern=SEMANTIC_VERSION.pattern, max_length=64)
    task: Literal["classification", "detection", "segmentation", "anomaly"]
    head: Literal["classifier", "cells"]
    labels: tuple[Label, ...] = Field(min_length=1, max_length=1000)
    good_labels: tuple[Label, ...] = ()
    licence: str = ""
    input: InputSpec
    output: OutputSpec = OutputSpec()
    thresholds: dict[str, ThresholdSpec] = {}
    training: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    files: dict[str, Sha256]

    @property
    def reference(self) -> str:
        """`name@version`, as records show it."""
        return f"{self.name}@{self.version}"

    @property
    def full_thresholds(self) -> Mapping[str, Threshold]:
        """Suggested limits for every label, the defaults where the manifest is silent."""
        specs = {label: self.thresholds.get(label, ThresholdSpec()) for label in self.labels}
        return {
            label: Threshold(
                reject=spec.reject,
                doubt=spec.reject if spec.doubt is None else spec.doubt,
                accept=spec.accept,
                region=spec.region,
            )
            for label, spec in specs.items()
        }

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            check_inside(name)
        for needed in (MODEL, GOLDEN):
            if needed not in files:
                raise ValueError(f"{needed} is not listed: every bundle has one")
        return files

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels = {list(self.labels)} are not all different")
        for key, names in (("good_labels", self.good_labels), ("thresholds", tuple(self.thresholds))):
            if strangers := [name for name in names if name not in self.labels]:
                raise ValueError(f"{key} names {strangers[0]!r}: allowed are the labels {list(self.labels)}")
        if (self.head == "cells") != (self.output.cells is not None):
            raise ValueError(
                f"output.cells = {self.output.cells!r} with head = {self.head!r}: head 'cells' alone has it"
            )
        return self


class GoldenFrame(_Table):
    """One picture below `golden/` and the scores that the model must give for it."""

    file: str
    scores: dict[str, Share] = Field(min_length=1)

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        return check_inside(file)


class Golden(_Table):
    """The golden frames and how far a score may be off."""

    tolerance: float = Field(gt=0, le=0.2, allow_inf_nan=False)
    frame: tuple[GoldenFrame, ...] = Field(min_length=1, max_length=100)


def check_inside(name: str) -> str:
    """Give `name` back if it is a plain relative path below the bundle; raises ValueError."""
    parts = PurePosixPath(name).parts
    plain = name.isprintable() and "\\" not in name and ":" not in name and str(PurePosixPath(name)) == name
    if not plain or not parts or ".." in parts or name.startswith("/") or name in (".", MANIFEST, SIGNATURE):
        raise ValueError(f"{name!r} is no file below the bundle: allowed is a plain relative path")
    return name


def read_manifest(data: bytes, *, where: str) -> Manifest:
    """Read `bundle.toml`; raises BundleError naming the file, the key, the value and what is allowed."""
    return _read(Manifest, data, f"{where}: {MANIFEST}")


def read_golden(data: bytes, *, where: str, manifest: Manifest) -> Golden:
    """Read `golden/golden.toml` against its manifest; raises BundleError."""
    source = f"{where}: {GOLDEN}"
    golden = _read(Golden, data, source)
    for frame in golden.frame:
        if f"golden/{frame.file}" not in manifest.files:
            raise BundleError(f"{source}: file = {frame.file!r} is not listed in {MANIFEST}")
        for label in frame.scores:
            if label not in manifest.labels:
                raise BundleError(f"{source}: scores name {label!r}: allowed are the labels {list(manifest.labels)}")
    return golden


def _read(kind: type[_T], data: bytes, where: str) -> _T:
    try:
        return kind.model_validate(tomllib.loads(data.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BundleError(f"{where}: not valid TOML: {exc}") from exc
    except ValidationError as exc:
        error = exc.errors()[0]
        key = ".".join(str(part) for part in error["loc"]) or "the whole"
        value = error["input"]
        shown = "" if isinstance(value, dict | BaseModel) else f" = {value!r}"
        message = error["msg"].removeprefix("Value error, ")
        raise BundleError(f"{where}: {key}{shown}: {message}") from exc
