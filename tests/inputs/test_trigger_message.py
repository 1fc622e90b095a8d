import base64
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.domain.part import ImagePath, InlineImage, Trigger
from bridge.errors import TriggerError
from bridge.inputs.trigger_message import read_trigger

JPEG = b"\xff\xd8\xff\xe0 picture \xff\xd9"


def read(payload: bytes | dict[str, Any], **options: Any) -> Trigger:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_trigger(data, arrived_ns=7, **options)


def test_full_json_trigger() -> None:
    trigger = read(
        {
            "part_id": "A-000123", "sequence": 123, "ts": "2026-11-21T08:00:00.123456Z", "encoder": 456789,
            "length_mm": 100.0, "recipe": "bracket-a", "unknown": [1, {"a": None}],
            "image": {"media_type": "image/jpeg", "data": base64.b64encode(JPEG).decode()},
        }
    )  # fmt: skip
    assert trigger == Trigger(
        sequence=123, part_id="A-000123", arrived_ns=7, ts="2026-11-21T08:00:00.123456Z",
        source_utc_ns=1_795_248_000_123_456_000, encoder_counts=456789, length_mm=100.0, recipe="bracket-a",
        image=InlineImage(media_type="image/jpeg", data=JPEG),
    )  # fmt: skip


def test_raw_trigger() -> None:
    properties = [("sequence", "4294967295"), ("part_id", "B 1"), ("ts", "2026-11-21T08:00:00Z"), ("other", "x")]
    properties += [("encoder", "99"), ("length_mm", "80.5"), ("eye_on_ms", "66.5"), ("recipe", "r"), ("other", "y")]
    trigger = read(JPEG, content_type="image/JPEG; x=1", user_properties=properties)
    assert trigger.problem is None
    assert (trigger.sequence, trigger.part_id, trigger.encoder_counts) == (2**32 - 1, "B 1", 99)
    assert (trigger.length_mm, trigger.recipe, trigger.ts) == (80.5, "r", "2026-11-21T08:00:00Z")
    assert trigger.eye_on_ms == 66.5
    assert trigger.image == InlineImage(media_type="image/jpeg", data=JPEG)


@pytest.mark.parametrize("value", [0, 1, 2**32 - 1, 12.0])
def test_sequences_that_count(value: float) -> None:
    trigger = read({"sequence": value})
    assert (trigger.sequence, trigger.part_id, trigger.problem) == (int(value), str(int(value)), None)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"not JSON", b"{", b"null", b"5", b"[]", b"{}", b'{"sequence": null}', b'{"sequence": -1}',
        b'{"sequence": 1e99}', b'{"sequence": 1e999}', b'{"sequence": 1.5}', b'{"sequence": true}',
        b'{"sequence": "5"}', b'{"sequence": 4294967296}', b'{"sequence": NaN}', b'{"sequence": [5]}',
        b'{"sequence": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"sequence": 5, "a":' * 100_000,
        b'{"sequence": 5, "sequence": 6}', b'{"sequence": 5', b"\xff\xfe{", b'{"sequence": 5}' + b" " * 2000,
        b'{"sequence": 5, "a": [' + b"0," * 30_000 + b"0]}",
    ],
)  # fmt: skip
def test_no_sequence_no_trigger(payload: bytes) -> None:
    with pytest.raises(TriggerError) as caught:
        read(payload, max_payload_bytes=1000 if len(payload) < 5000 else 10**7)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("member", "word"),
    [
        ('"part_id": "' + "x" * 10_000 + '"', "part_id"), ('"part_id": 7', "part_id"), ('"part_id": ""', "part_id"),
        ('"part_id": "a\\nb"', "part_id"), ('"part_id": "\\ud800"', "part_id"), ('"part_id": {}', "part_id"),
        ('"eye_on_ms": 0', "eye_on_ms"), ('"eye_on_ms": "x"', "eye_on_ms"), ('"eye_on_ms": 1e9', "eye_on_ms"),
        ('"length_mm": NaN', "NaN"), ('"length_mm": 0', "length_mm"), ('"length_mm": -1', "length_mm"),
        ('"length_mm": 1e999', "length_mm"), ('"length_mm": "9"', "length_mm"), ('"length_mm": true', "length_mm"),
        ('"length_mm": 1' + "0" * 400, "length_mm"), ('"x": Infinity', "Infinity"), ('"encoder": 1.5', "encoder"),
        ('"encoder": 4294967296', "encoder"), ('"ts": 5', "ts"), ('"ts": "yesterday"', "ts"),
        ('"ts": "2026-02-30T00:00:00Z"', "ts"), ('"ts": "2026-11-21T08:00:00"', "ts"), ('"recipe": 5', "recipe"),
        ('"image": "x"', "image"), ('"image": {}', "media_type"), ('"image": {"path": 5}', "image.path"),
        ('"image": {"path": "a\\u0000b"}', "image.path"), ('"image": {"path": "a", "data": "QQ=="}', "both"),
        ('"image": {"media_type": "image/tiff", "data": "QQ=="}', "media_type"),
        ('"image": {"media_type": "image/png", "data": "Q"}', "base64"),
        ('"image": {"media_type": "image/png", "data": "Ä"}', "base64"),
        ('"image": {"media_type": "image/png", "data": ""}', "image.data"),
        ('"part_id": "a", "part_id": "b"', "twice"),
    ],
)  # fmt: skip
def test_a_legible_sequence_gives_a_trigger_with_its_problem(member: str, word: str) -> None:
    trigger = read(f'{{"sequence": 5, {member}}}'.encode())
    assert trigger.sequence == 5
    assert trigger.problem is not None
    assert word in trigger.problem
    assert len(trigger.problem) < 400
    assert trigger.image is None


def test_a_signed_encoder_count_keeps_its_bits() -> None:
    assert read({"sequence": 1, "encoder": -1}).encoder_counts == 2**32 - 1


def test_absent_is_null_and_a_path_is_left_to_the_camera() -> None:
    trigger = read({"sequence": 1, "part_id": None, "ts": None, "image": {"path": "../secret"}})
    assert (trigger.part_id, trigger.ts, trigger.problem) == ("1", None, None)
    assert trigger.image == ImagePath(path="../secret")


def test_a_picture_without_its_content_type_still_names_its_part() -> None:
    trigger = read(JPEG, user_properties=[("sequence", "9"), ("part_id", "P")])
    assert (trigger.sequence, trigger.part_id) == (9, "P")
    assert trigger.problem is not None


@pytest.mark.parametrize(
    ("content_type", "payload", "word"),
    [("image/tiff", b"II*", "content type"), ("image/png", b"", "empty"), ("image/png", b"x" * 101, "max_payload")],
)
def test_raw_problems(content_type: str, payload: bytes, word: str) -> None:
    options = {"content_type": content_type, "user_properties": [("sequence", "9")], "max_payload_bytes": 100}
    trigger = read(payload, **options)
    assert trigger.problem is not None
    assert word in trigger.problem


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1_0", " 5", "٥", "0x5", "1e3", "4294967296", "9" * 5000])
def test_raw_sequences_are_plain_decimals(text: str) -> None:
    with pytest.raises(TriggerError):
        read(JPEG, content_type="image/jpeg", user_properties=[("sequence", text)])


def test_raw_properties_never_twice() -> None:
    with pytest.raises(TriggerError, match="twice"):
        read(JPEG, content_type="image/jpeg", user_properties=[("sequence", "1"), ("sequence", "1")])
    trigger = read(JPEG, content_type="image/jpeg", user_properties=[("sequence", "1"), ("ts", "a"), ("ts", "b")])
    assert trigger.problem == "ts is there twice"
    assert trigger.ts is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["QQ==", "a/b", "image/png"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["sequence", "part_id", "ts", "encoder", "length_mm", "eye_on_ms", "recipe", "image", "other"])
image_keys = st.sampled_from(["media_type", "data", "path", "other"])
documents = st.dictionaries(keys, json_values | st.dictionaries(image_keys, json_values), max_size=8)
payloads = st.binary(max_size=300) | documents.map(lambda value: json.dumps(value).encode())


@settings(max_examples=300, deadline=None)
@example(payload=b'{"sequence":' * 1000, content_type=None, user_properties=[])
@given(
    payload=payloads,
    content_type=st.none() | st.text(max_size=20) | st.sampled_from(["image/jpeg", "image/png", "application/json"]),
    user_properties=st.lists(st.tuples(keys | st.text(max_size=5), st.text(max_size=20) | st.just("5")), max_size=5),
)
def test_nothing_but_a_trigger_or_a_trigger_error(
    payload: bytes, content_type: str | None, user_properties: list[tuple[str, str]]
) -> None:
    try:
        trigger = read(payload, content_type=content_type, user_properties=user_properties)
    except TriggerError:
        return
    assert 0 <= trigger.sequence < 2**32
    assert 1 <= len(trigger.part_id) <= 128
    assert trigger.part_id.isprintable()
    assert trigger.length_mm is None or 0 < trigger.length_mm <= 100_000
    assert trigger.encoder_counts is None or 0 <= trigger.encoder_counts < 2**32
    assert (trigger.ts is None) == (trigger.source_utc_ns is None)
