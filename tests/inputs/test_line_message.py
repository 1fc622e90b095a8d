import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.domain.messages import EncoderSample, SpeedSample
from bridge.domain.rfc3339 import format_utc
from bridge.errors import MessageError
from bridge.inputs.line_message import COMMANDS, Order, read_command, read_encoder, read_speed

NOW = 1_795_248_000_000_000_000
SECOND = 1_000_000_000


def encoded(**members: Any) -> bytes:
    return json.dumps(members).encode()


def speed(payload: bytes, *, kept: bool = False) -> SpeedSample | None:
    return read_speed(payload, arrived_ns=100 * SECOND, now_utc_ns=NOW, kept=kept)


def test_a_live_speed_counts_from_its_arrival() -> None:
    sample = speed(encoded(mm_s=1200, ts=format_utc(NOW - 3600 * SECOND)))
    assert sample == SpeedSample(mm_s=1200.0, at_ns=100 * SECOND, origin="mqtt")
    assert speed(encoded(mm_s=0)) == SpeedSample(mm_s=0.0, at_ns=100 * SECOND, origin="mqtt")


def test_a_kept_speed_is_as_old_as_its_stamp() -> None:
    assert speed(encoded(mm_s=5), kept=True) is None
    aged = speed(encoded(mm_s=5, ts=format_utc(NOW - 30 * SECOND)), kept=True)
    assert aged == SpeedSample(mm_s=5.0, at_ns=70 * SECOND, origin="mqtt")
    ahead = speed(encoded(mm_s=5, ts=format_utc(NOW + 30 * SECOND)), kept=True)
    assert ahead == SpeedSample(mm_s=5.0, at_ns=100 * SECOND, origin="mqtt")


@pytest.mark.parametrize("payload", [b"", b"1200", b"{}", b'{"mm_s": NaN}', b'{"mm_s": -1}', b'{"mm_s": "5"}',
                                     b'{"mm_s": 1e999}', b'{"mm_s": true}', b'{"mm_s": 5, "ts": 7}', b'{"mm_s":1,"mm_s":2}',
                                     b"[" * 100_000])  # fmt: skip
def test_bad_speeds(payload: bytes) -> None:
    with pytest.raises(MessageError):
        speed(payload)


def test_encoder_counts_modulo_u32() -> None:
    assert read_encoder(encoded(counts=-1), arrived_ns=5) == EncoderSample(counts=2**32 - 1, at_ns=5, origin="mqtt")
    for payload in (b'{"counts": 1.5}', b'{"counts": 4294967296}', b"{}", b'{"counts": null}'):
        with pytest.raises(MessageError):
            read_encoder(payload, arrived_ns=5)


def command(payload: bytes, *, kept: bool = False) -> Order:
    return read_command(payload, now_utc_ns=NOW, kept=kept)


def test_every_command_is_read() -> None:
    for name in COMMANDS:
        assert command(encoded(command=name, recipe="r")) == Order(
            name=name,  # type: ignore[arg-type]
            recipe="r" if name == "select-recipe" else None,
        )


def test_a_challenge_names_its_part_or_none() -> None:
    assert command(encoded(command="challenge")) == Order(name="challenge")
    assert command(encoded(command="challenge", part_id="BAD-1")) == Order(name="challenge", part_id="BAD-1")
    assert command(encoded(command="challenge", sequence=0)) == Order(name="challenge", sequence=0)


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"command": "challenge", "sequence": -1}, "sequence"), ({"command": "challenge", "sequence": 2**32}, "sequence"),
        ({"command": "challenge", "part_id": ""}, "part_id"), ({"command": "challenge", "part_id": 7}, "part_id"),
        ({"command": "explode"}, "select-recipe, enable, disable, reset-counters, clear-error"),
        ({}, "allowed are"), ({"command": ["enable"]}, "allowed are"),
        ({"command": "select-recipe"}, "needs recipe"), ({"command": "select-recipe", "recipe": 5}, "recipe"),
        ({"command": "enable", "ts": format_utc(NOW - 6 * SECOND)}, "6.0 s old"), ({"command": "enable", "ts": 5}, "ts"),
    ],
)  # fmt: skip
def test_a_refused_command_names_what_is_allowed(members: dict[str, Any], word: str) -> None:
    with pytest.raises(MessageError, match=word):
        command(encoded(**members))


def test_a_kept_command_must_prove_its_age() -> None:
    fresh = encoded(command="enable", ts=format_utc(NOW - 4 * SECOND))
    assert command(fresh, kept=True).name == "enable"
    assert command(encoded(command="enable")).name == "enable"
    for payload in (encoded(command="enable"), encoded(command="enable", ts=format_utc(NOW + 60 * SECOND))):
        with pytest.raises(MessageError, match="kept"):
            command(payload, kept=True)


@settings(max_examples=200, deadline=None)
@given(payload=st.binary(max_size=100) | st.dictionaries(
    st.sampled_from(["mm_s", "counts", "command", "recipe", "ts", "part_id", "sequence"]),
    st.none() | st.integers() | st.floats() | st.text(),
).map(lambda value: json.dumps(value).encode()), kept=st.booleans())  # fmt: skip
def test_only_message_errors(payload: bytes, kept: bool) -> None:
    for reading in (lambda: speed(payload, kept=kept), lambda: command(payload, kept=kept),
                    lambda: read_encoder(payload, arrived_ns=0)):  # fmt: skip
        try:
            reading()
        except MessageError as exc:
            assert len(str(exc)) < 400
