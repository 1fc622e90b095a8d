"""Which requests are found on a serial line, among noise, cut frames and the talk of other devices."""

from __future__ import annotations

import pytest

from bridge.outputs.modbus.rtu import RtuFrames, frame_gap_s

# Frames with their checksums as the Modbus documents and other tools give them, so that nothing here computes its own.
READ_1 = bytes.fromhex("010400020002D00B")  # unit 1, function 4, registers 2 and 3
READ_2 = bytes.fromhex("0203000000018439")
OTHER_REQUEST = bytes.fromhex("1103006B00037687")
OTHER_ANSWER = bytes.fromhex("110306AE415652434049AD")
PDU_1, PDU_2 = READ_1[1:-2], READ_2[1:-2]


def frames() -> RtuFrames:
    return RtuFrames(range(1, 3))


def found(*pieces: bytes, apart_s: float = 0.0) -> tuple[int, bytes] | None:
    line, at_s = frames(), 100.0
    for piece in pieces:
        line.feed(piece, at_s=at_s)
        at_s += apart_s
    return line.at_silence()


@pytest.mark.parametrize(("frame", "request_of"), [(READ_1, (1, PDU_1)), (READ_2, (2, PDU_2))])
def test_a_request_to_one_of_our_units_is_found(frame: bytes, request_of: tuple[int, bytes]) -> None:
    assert found(frame) == request_of


def test_what_is_for_others_is_left_alone() -> None:
    broadcast = bytes.fromhex("00060000000149DB")
    for frame in (OTHER_REQUEST, OTHER_ANSWER, broadcast, b"", READ_1[:3]):
        assert found(frame) is None


@pytest.mark.parametrize("at", range(len(READ_1)))
def test_a_single_wrong_bit_is_silence(at: int) -> None:
    for bit in range(8):
        wrong = bytearray(READ_1)
        wrong[at] ^= 1 << bit
        assert found(bytes(wrong)) is None


def test_a_frame_that_the_adapter_cut_is_put_together_but_not_for_long() -> None:
    line = frames()
    line.feed(READ_1[:5], at_s=1.0)
    assert line.at_silence() is None
    line.feed(READ_1[5:], at_s=1.016)
    assert line.at_silence() == (1, PDU_1)
    assert found(READ_1[:5], READ_1[5:], apart_s=0.06) is None


@pytest.mark.parametrize("before", [b"\x00", b"\xff\xff", READ_1[:6], OTHER_REQUEST + OTHER_ANSWER, READ_2, bytes(400)])
def test_a_request_behind_something_else_is_found(before: bytes) -> None:
    assert found(before + READ_1) == (1, PDU_1)


def test_a_frame_is_found_once() -> None:
    line = frames()
    line.feed(READ_1, at_s=1.0)
    assert line.at_silence() == (1, PDU_1)
    assert line.at_silence() is None


def test_noise_without_end_is_not_kept() -> None:
    line = frames()
    for turn in range(1_000):
        line.feed(bytes(range(256)), at_s=1.0 + turn / 1_000)
        assert line.at_silence() is None
    line.feed(READ_2, at_s=2.0)
    assert line.at_silence() == (2, PDU_2)


@pytest.mark.parametrize(
    ("baud_rate", "bits", "ms"), [(9_600, 11, 4.01), (19_200, 11, 2.005), (9_600, 10, 3.646), (38_400, 11, 1.75)]
)
def test_the_silence_between_frames_is_that_of_the_standard(baud_rate: int, bits: int, ms: float) -> None:
    assert frame_gap_s(baud_rate=baud_rate, bits=bits) * 1e3 == pytest.approx(ms, abs=0.001)
