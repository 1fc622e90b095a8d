"""Which frame of a stream is a part's own, and a raw frame's way through encoder, decoder and store."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bridge.errors import CameraError
from bridge.inference.picture import decode
from bridge.inputs.cameras.frames import KEPT_BYTES, Cadence, RawFrame, RecentFrames, bitmap
from bridge.inputs.cameras.picture_format import media_type_of
from bridge.records.pictures import encode_raw

MS = 1_000_000


def frame(at_ms: float, size: int = 10) -> RawFrame:
    exposed_ns = round(at_ms * MS)
    return RawFrame(pixels=np.zeros((1, size), np.uint8), exposed_ns=exposed_ns, exposed_utc_ns=exposed_ns)


def recent(*at_ms: float) -> RecentFrames:
    frames = RecentFrames()
    for each in at_ms:
        frames.add(frame(each))
    return frames


def taken(frames: RecentFrames, moment_ms: float, *, before_ms: float = 20, after_ms: float = 250) -> float | None:
    got = frames.take(round(moment_ms * MS), before_ns=round(before_ms * MS), after_ns=round(after_ms * MS))
    return None if got is None else got.exposed_ns / MS


@pytest.mark.parametrize(
    ("moment_ms", "given_ms"),
    [
        (100, 100),
        (119, 100),  # nothing younger is there yet, and it is young enough
        (121, None),  # too old: it may show the part before
        (75, 80),
        (65, 60),
        (-151, None),  # what is there came too long after the part
    ],
)
def test_the_frame_nearest_to_the_part_is_its_own(moment_ms: float, given_ms: float | None) -> None:
    assert taken(recent(60, 80, 100), moment_ms, after_ms=200) == given_ms


def test_a_part_judged_late_gets_the_frame_of_its_moment_not_the_newest() -> None:
    assert taken(recent(*range(0, 900, 33)), 300) == 297


def test_no_frame_serves_two_parts() -> None:
    frames = recent(60, 80, 100)
    assert taken(frames, 100) == 100
    assert taken(frames, 101) is None
    frames.add(frame(133))
    assert taken(frames, 101) == 133


def test_a_second_of_frames_is_held_and_no_more_than_fits() -> None:
    long = recent(*range(0, 5000, 100))
    assert taken(long, 3800, before_ms=0, after_ms=50) is None
    assert taken(long, 3900, before_ms=0, after_ms=50) == 3900
    large = RecentFrames()
    for at_ms in range(0, 500, 100):
        large.add(frame(at_ms, size=KEPT_BYTES // 2 + 1))
    assert taken(large, 300, after_ms=50) is None
    assert taken(large, 400) == 400
    huge = RecentFrames()
    huge.add(frame(0, size=KEPT_BYTES + 1))
    assert taken(huge, 0) == 0


def lives(steps_ms: list[float]) -> list[bool]:
    """Run steps between frames through a cadence that has seen 40 ms for a second."""
    cadence, now_ms = Cadence(), 0.0
    for _ in range(25):
        cadence.live(round(now_ms * MS))
        now_ms += 40
    now_ms -= 40
    said = []
    for step in steps_ms:
        now_ms += step
        said.append(cadence.live(round(now_ms * MS)))
    return said


def test_frames_that_queued_up_on_the_way_count_for_nobody() -> None:
    assert lives([40, 35, 55, 20, 90]) == [True] * 5
    # a second's stall, what had piled up, and the first that is from now
    assert lives([1000, 3, 3, 3, 3, 30, 40]) == [False] * 5 + [True] * 2


def test_what_a_server_had_stored_counts_for_nobody() -> None:
    cadence = Cadence()
    assert not any(cadence.live(at_ms * MS) for at_ms in range(0, 500, 5))


def test_a_camera_that_changes_its_pace_is_believed_again_after_two_seconds() -> None:
    said = lives([10] * 250)
    assert not any(said[:200])
    assert all(said[-40:])


# ---- a raw frame's way ---------------------------------------------------------------------------------------------


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(48, 64, 3), (47, 61, 3), (33, 35)])
def test_a_raw_frame_is_decoded_without_loss(shape: tuple[int, ...]) -> None:
    raw = pixels(*shape)
    data = bitmap(raw)
    colour = raw if raw.ndim == 3 else np.repeat(raw[:, :, None], 3, axis=2)
    shown = decode(data, colour="BGR", ours=True)
    assert np.array_equal(shown.pixels, colour)
    assert np.array_equal(decode(data, colour="RGB", ours=True).pixels, colour[:, :, ::-1])
    assert (shown.width, shown.height) == (shape[1], shape[0])
    reduced = decode(data, colour="BGR", reduction=2, ours=True).pixels
    assert [abs(2 * reduced.shape[axis] - shape[axis]) <= 1 for axis in (0, 1)] == [True, True]


def test_a_frame_of_another_shape_is_refused() -> None:
    for shape in ((4, 4, 4), (0, 4, 3), (4,)):
        with pytest.raises(CameraError, match="can't be encoded"):
            bitmap(np.zeros(shape, np.uint8))
    with pytest.raises(CameraError, match="uint16 can't be encoded"):
        bitmap(np.zeros((4, 4), np.uint16))  # type: ignore[arg-type]


def test_a_bitmap_is_taken_from_our_own_cameras_alone() -> None:
    data = bitmap(pixels(48, 64, 3))
    with pytest.raises(CameraError, match="neither JPEG nor PNG"):
        decode(data, colour="BGR")
    with pytest.raises(CameraError, match="neither JPEG nor PNG"):
        media_type_of(data, name="the trigger's picture")


@pytest.mark.parametrize("cut", [1, 100, 9000, 9250])
def test_a_cut_bitmap_is_refused(cut: int) -> None:
    data = bitmap(pixels(48, 64, 3))
    with pytest.raises(CameraError, match="truncated"):
        decode(data[:-cut], colour="BGR", ours=True)
    shorter = data[:-cut]
    claimed = shorter[:2] + len(shorter).to_bytes(4, "little") + shorter[6:]
    with pytest.raises(CameraError, match=r"truncated|unreadable"):
        decode(claimed, colour="BGR", ours=True)


def test_a_raw_frame_is_stored_as_a_jpeg_close_to_it() -> None:
    smooth = cv2.GaussianBlur(pixels(120, 160, 3), (0, 0), 4)
    stored = encode_raw(bitmap(smooth))
    assert media_type_of(stored, name="the stored picture") == "image/jpeg"
    assert np.abs(decode(stored, colour="BGR").pixels.astype(int) - smooth).mean() < 2
    with pytest.raises(ValueError, match=r"decoded|imdecode|buf"):
        encode_raw(b"BM no picture")
