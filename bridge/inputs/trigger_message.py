"""An MQTT message becomes a trigger: JSON, or the picture itself with its fields in user properties.

A message whose sequence is legible always becomes a trigger, with `problem` set when the rest is not: that part gets
ERROR and its policy. Only a message without a legible sequence raises TriggerError.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from bridge.domain.part import ImagePath, InlineImage, ReplyTo, Trigger
from bridge.errors import MessageError, TriggerError
from bridge.inputs.fields import MAX_EYE_ON_MS, MAX_LENGTH_MM, counts_of, measure, printable, sequence_of, show, stamp
from bridge.inputs.strict_json import read_object

_T = TypeVar("_T")
MEDIA_TYPES = ("image/jpeg", "image/png")
PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG")
NO_CONTENT_TYPE = "a picture without a content type: set the MQTT 5 property content-type to image/jpeg or image/png"
MAX_PATH_CHARACTERS = 1024
PROPERTY_NAMES = ("part_id", "sequence", "ts", "encoder", "length_mm", "eye_on_ms", "recipe")
_WHOLE = re.compile(r"-?[0-9]{1,10}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


def read_trigger(
    payload: bytes,
    *,
    arrived_ns: int,
    content_type: str | None = None,
    user_properties: Sequence[tuple[str, str]] = (),
    reply: ReplyTo | None = None,
    backlog: bool = False,
    max_payload_bytes: int = 16_000_000,
) -> Trigger:
    """Read one message of topic `trigger`; pure, and quick whatever the bytes are.

    A content type of `image/...` means the raw form. `arrived_ns` is monotonic. Raises TriggerError, and nothing else,
    when no sequence can be read.
    """
    media_type = (content_type or "").split(";")[0].strip().lower()
    problems: list[str] = []
    if media_type.startswith("image/"):
        members = _from_properties(user_properties, problems)
        image: InlineImage | ImagePath | None = _raw_image(payload, media_type, max_payload_bytes, problems)
    else:
        try:
            members = _from_json(payload, max_payload_bytes, problems)
        except MessageError as exc:
            # a sender that forgot the content type still told us which part it was
            picture = payload.startswith(PICTURE_STARTS)
            problems.append(NO_CONTENT_TYPE if picture else str(exc))
            members = _from_properties(user_properties, problems)
        image = _part_of(members, "image", _image, problems)
    try:
        sequence = sequence_of(members.get("sequence"))
    except MessageError as exc:
        raise TriggerError("; ".join((*problems, str(exc)))) from exc
    part_id = _part_of(members, "part_id", lambda value: printable(value, name="part_id"), problems)
    ts = _part_of(members, "ts", stamp, problems)
    encoder = _part_of(members, "encoder", lambda value: counts_of(value, name="encoder"), problems)
    length = _part_of(members, "length_mm", _length, problems)
    recipe = _part_of(members, "recipe", lambda value: printable(value, name="recipe"), problems)
    return Trigger(
        sequence=sequence,
        part_id=part_id or str(sequence),
        arrived_ns=arrived_ns,
        ts=ts[0] if ts else None,
        source_utc_ns=ts[1] if ts else None,
        encoder_counts=encoder,
        length_mm=length,
        eye_on_ms=_part_of(members, "eye_on_ms", _eye_on, problems),
        recipe=recipe,
        image=image,
        backlog=backlog,
        reply=reply,
        problem="; ".join(problems) or None,
    )


def _part_of(members: Mapping[str, Any], name: str, read: Callable[[Any], _T], problems: list[str]) -> _T | None:
    value = members.get(name)
    if value is None:
        return None
    try:
        return read(value)
    except MessageError as exc:
        problems.append(str(exc))
        return None


def _from_json(payload: bytes, max_payload_bytes: int, problems: list[str]) -> dict[str, Any]:
    found = read_object(payload, max_bytes=max_payload_bytes)
    problems.extend(found.flaws)
    if "sequence" in found.repeated:
        raise MessageError("sequence is there twice")
    problems.extend(f"{name} is there twice" for name in (*PROPERTY_NAMES, "image") if name in found.repeated)
    return found.members


def _from_properties(user_properties: Sequence[tuple[str, str]], problems: list[str]) -> dict[str, Any]:
    known = [(name, text) for name, text in user_properties if name in PROPERTY_NAMES]
    times = Counter(name for name, _ in known)
    problems.extend(f"{name} is there twice" for name in times if times[name] > 1)
    return {name: _plain(name, text) for name, text in known if times[name] == 1}


def _plain(name: str, text: str) -> object:
    """Give a number for decimal text where one belongs, else the text, which its field then refuses by name."""
    if name in {"sequence", "encoder"} and _WHOLE.fullmatch(text):
        return int(text)
    if name in {"length_mm", "eye_on_ms"} and _DECIMAL.fullmatch(text):
        return float(text)
    return text


def _raw_image(payload: bytes, media_type: str, max_payload_bytes: int, problems: list[str]) -> InlineImage | None:
    if media_type not in MEDIA_TYPES:
        problems.append(f"content type is {show(media_type)}: allowed are {' and '.join(MEDIA_TYPES)}")
    elif len(payload) > max_payload_bytes:
        problems.append(f"{len(payload)} bytes are more than max_payload_bytes = {max_payload_bytes}")
    elif not payload:
        problems.append("the picture is empty")
    else:
        return InlineImage(media_type=media_type, data=payload)
    return None


def _length(value: object) -> float:
    return measure(value, name="length_mm", high=MAX_LENGTH_MM, zero=False)


def _eye_on(value: object) -> float:
    return measure(value, name="eye_on_ms", high=MAX_EYE_ON_MS, zero=False)


def _image(value: object) -> InlineImage | ImagePath:
    if not isinstance(value, dict):
        raise MessageError(f"image is {show(value)}: an object with data or path is needed")
    path, data = value.get("path"), value.get("data")
    if path is not None and data is not None:
        raise MessageError("image has both data and path")
    if path is not None:
        return ImagePath(path=printable(path, name="image.path", high=MAX_PATH_CHARACTERS))
    media_type = value.get("media_type")
    if media_type not in MEDIA_TYPES:
        raise MessageError(f"image.media_type is {show(media_type)}: allowed are {' and '.join(MEDIA_TYPES)}")
    if not isinstance(data, str) or not data:
        raise MessageError("image.data is missing or empty: base64 text is needed")
    try:
        return InlineImage(media_type=media_type, data=base64.b64decode(data.encode("ascii"), validate=True))
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise MessageError("image.data is no base64 text") from exc
