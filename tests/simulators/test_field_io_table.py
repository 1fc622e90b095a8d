"""The field's I/O: both halves of its table, and the pictures that stand for parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.line.camera import PictureFolderError, ReplayCamera, find_pictures
from simulators.line.field_io import Edge, FieldState, decode_inputs, encode_discrete, encode_inputs


@pytest.mark.parametrize("edges", [0, 1, 7, 8, 9, 23])
def test_what_the_conveyor_encodes_the_plc_decodes(edges: int) -> None:
    seen = tuple(Edge(sequence=2**32 - 3 + n if n < 3 else n - 3, count=70_000 * n) for n in range(edges))
    state = FieldState(
        encoder_count=2**32 - 2,
        speed_mm_s=1200.4,
        binned=70_001,
        edge_number=edges,
        edges=seen[-8:],
        photo_eye=edges % 2 == 1,
    )

    decoded = decode_inputs(encode_inputs(state))

    assert (decoded.encoder_count, decoded.speed_mm_s, decoded.binned) == (2**32 - 2, 1200.0, 70_001)
    assert decoded.edges == seen[-8:]
    assert decoded.edge_number == edges
    assert decoded.photo_eye == (edges % 2 == 1)


def test_the_published_registers_stand_where_the_documentation_says() -> None:
    state = FieldState(
        encoder_count=0x12345678, speed_mm_s=1200, binned=5, edge_number=1, edges=(Edge(sequence=65537, count=131074),)
    )

    assert encode_inputs(state)[:14] == [0x1234, 0x5678, 1200, 1, 1, 2, 2, 0, 5, 1, 1, 1, 2, 2]
    assert encode_discrete(FieldState(encoder_count=0, speed_mm_s=0, bin_sensor=True)) == [False, True, False]


def make_pictures(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")


def test_a_sub_folder_is_a_label_and_the_order_is_the_seed_s(tmp_path: Path) -> None:
    make_pictures(tmp_path, "good/b.jpg", "good/a.JPG", "pitting/images/c.png", "pitting/masks/c.png", "good/note.txt")

    plain = find_pictures(tmp_path)
    assert [(p.name, p.label) for p in plain] == [
        ("good/a.JPG", "good"),
        ("good/b.jpg", "good"),
        ("pitting/images/c.png", "pitting"),
    ]
    assert find_pictures(tmp_path, seed=4) == find_pictures(tmp_path, seed=4)
    camera = ReplayCamera(plain)
    assert [camera.is_good(camera.picture_for(n)) for n in range(4)] == [True, True, False, True]
    assert plain[2].media_type == "image/png"


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    make_pictures(tmp_path, "loose.jpg")

    with pytest.raises(PictureFolderError, match="a sub-folder for each label"):
        find_pictures(tmp_path)
    with pytest.raises(PictureFolderError, match="does not exist"):
        find_pictures(tmp_path / "none")
