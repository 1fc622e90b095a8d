"""A bundle is believed only when every byte of it is vouched for."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bridge.errors import BundleError
from bridge.inference import archive
from bridge.inference.bundle import find_bundle, open_bundle, read_bundle, version_key
from bridge.inference.trust import Trust, load_trust, shipped_folder, shipped_hashes, sign_manifest
from tests.inference.build import OPEN, bundle_files, write_bundle

FILES = bundle_files()


def _zip(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(prefix + name, data)
    return path


def _refused(path: Path, words: str, trust: Trust = OPEN) -> None:
    with pytest.raises(BundleError, match=words):
        read_bundle(path, trust)


@pytest.mark.parametrize("prefix", ["", "probe-1.0.0/"])
def test_a_zip_reads_like_its_folder(tmp_path: Path, prefix: str) -> None:
    folder = read_bundle(write_bundle(tmp_path / "probe-1.0.0", FILES), OPEN)
    packed = read_bundle(_zip(tmp_path / "probe-1.0.0.lgb", FILES, prefix), OPEN)
    assert (folder.reference, folder.sha256, folder.vouched_by) == ("probe@1.0.0", packed.sha256, "unsigned")
    assert folder.sha256 == hashlib.sha256(FILES["bundle.toml"]).hexdigest()
    assert dict(folder.files) == dict(packed.files)
    assert folder.labels == ("bright", "dark")
    assert folder.good_labels == ("dark",)


@pytest.mark.parametrize("name", [name for name in FILES if name != "bundle.toml"])
def test_one_changed_bit_in_any_file_is_refused(tmp_path: Path, name: str) -> None:
    data = bytearray(FILES[name])
    data[len(data) // 2] ^= 1
    _refused(write_bundle(tmp_path / "b", FILES | {name: bytes(data)}), f"{name} has been changed")


@pytest.mark.parametrize("name", [name for name in FILES if name != "bundle.toml"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    _refused(write_bundle(tmp_path / "b", {k: v for k, v in FILES.items() if k != name}), f"{name} is missing")


def test_a_file_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    _refused(write_bundle(tmp_path / "b", FILES | {"weights.bin": b"x"}), "weights.bin is not listed")


def test_no_bundle_at_all(tmp_path: Path) -> None:
    _refused(tmp_path / "absent", "no such bundle")
    _refused(write_bundle(tmp_path / "b", {"model.onnx": b"x"}), r"no bundle\.toml")
    (tmp_path / "text.lgb").write_text("hello")
    _refused(tmp_path / "text.lgb", "no usable zip")
    (tmp_path / "cut.lgb").write_bytes(_zip(tmp_path / "whole.lgb", FILES).read_bytes()[:-40])
    _refused(tmp_path / "cut.lgb", "no usable zip")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\b", "C:evil", "./a", "a//b"])
def test_a_zip_never_reaches_outside(tmp_path: Path, name: str) -> None:
    _refused(_zip(tmp_path / "b.lgb", FILES | {name: b"x"}), "no file below the bundle")
    assert not (tmp_path.parent / "evil").exists()


def test_links_are_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", FILES)
    secret = tmp_path / "secret"
    secret.write_bytes(FILES["card.md"])
    (folder / "card.md").unlink()
    (folder / "card.md").symlink_to(secret)
    _refused(folder, "card.md is no plain file")
    path = _zip(tmp_path / "b.lgb", {k: v for k, v in FILES.items() if k != "card.md"})
    link = zipfile.ZipInfo("card.md")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(link, str(secret))
    _refused(path, "card.md is a link")


def test_a_folder_linked_into_the_bundle_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", FILES)
    (folder / "golden").rename(tmp_path / "elsewhere")
    (folder / "golden").symlink_to(tmp_path / "elsewhere")
    _refused(folder, "golden is no plain file")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = archive.MAX_FILE_BYTES
    path = _zip(tmp_path / "b.lgb", FILES | {"big": bytes(4_000_000)})
    lying = path.read_bytes().replace((4_000_000).to_bytes(4, "little"), (40_000).to_bytes(4, "little"))
    (tmp_path / "lying.lgb").write_bytes(lying)
    _refused(tmp_path / "lying.lgb", "larger than it claims|no usable zip")
    huge = path.read_bytes().replace((4_000_000).to_bytes(4, "little"), (limit + 1).to_bytes(4, "little"))
    (tmp_path / "huge.lgb").write_bytes(huge)
    _refused(tmp_path / "huge.lgb", f"big has {limit + 1} bytes")
    many = {f"f{n}": b"" for n in range(archive.MAX_FILES + 1)}
    _refused(_zip(tmp_path / "many.lgb", FILES | many), "more than 1000 files")


def test_a_name_twice_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "b.lgb", FILES)
    with zipfile.ZipFile(path, "a") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("model.onnx", b"other")
    _refused(path, "there twice")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema = 2"),
        ({"version": "1.0"}, r"version = '1\.0'"),
        ({"name": "a b"}, "name = 'a b'"),
        ({"head": "yolo"}, "head = 'yolo'.*'classifier' or 'cells'"),
        ({"labels": []}, "labels"),
        ({"labels": ["a", "a"]}, "not all different"),
        ({"good_labels": ["fine"]}, r"good_labels names 'fine': allowed are the labels \['bright', 'dark'\]"),
        ({"width": 0}, r"input\.width = 0"),
        ({"channels": 1}, "GREY has 1"),
        ({"resize": "crop"}, r"input\.resize = 'crop'"),
        ({"input_extra": "mean = [1.0, 2.0, 3.0]"}, "normalises them itself"),
        ({"dtype": "float32", "input_extra": "std = [1.0, 0.0, 1.0]"}, "must not be 0"),
        ({"dtype": "float32", "input_extra": "mean = [1.0]"}, "mean has 1 values"),
        ({"extra": "colour = 3"}, r"output\.colour = 3: Extra inputs"),
        ({"extra": "[thresholds.bright]\nreject = 0.3\ndoubt = 0.4"}, "doubt = 0.4 lies over reject = 0.3"),
        ({"extra": "[thresholds.bright]\nreject = 1.5"}, r"thresholds\.bright\.reject = 1\.5.*less than or equal to 1"),
        ({"extra": "[thresholds.rust]\nreject = 0.5"}, "thresholds names 'rust'"),
        ({"extra": "cells = 'cells'"}, "head 'cells' alone"),
        ({"extra": "x = [1"}, "not valid TOML"),
    ],
)
def test_a_mistake_in_the_manifest_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    _refused(write_bundle(tmp_path / "b", **changes), f"bundle.toml: .*{words}")


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        ("tolerance = 0.02\n", "frame"),
        ("tolerance = 0.9\n[[frame]]\nfile = 'grey.png'\nscores = {bright = 0.2}", "tolerance = 0.9"),
        ("tolerance = 0.02\n[[frame]]\nfile = '../grey.png'\nscores = {bright = 0.2}", "no file below"),
        ("tolerance = 0.02\n[[frame]]\nfile = 'other.png'\nscores = {bright = 0.2}", "not listed"),
        ("tolerance = 0.02\n[[frame]]\nfile = 'grey.png'\nscores = {rust = 0.2}", "scores name 'rust'"),
        ("tolerance = 0.02\n[[frame]]\nfile = 'grey.png'\nscores = {}", "scores"),
    ],
)
def test_a_mistake_in_the_golden_frames_is_named(tmp_path: Path, golden: str, words: str) -> None:
    _refused(write_bundle(tmp_path / "b", golden=golden), f"golden.toml: .*{words}")


def test_suggested_thresholds_cover_every_label(tmp_path: Path) -> None:
    extra = "[thresholds.bright]\nreject = 0.7\nregion = 0.3"
    limits = read_bundle(write_bundle(tmp_path / "b", extra=extra), OPEN).thresholds
    assert (limits["bright"].reject, limits["bright"].doubt, limits["bright"].region) == (0.7, 0.7, 0.3)
    assert limits["dark"].accept == 0.5


def _public(key: Ed25519PrivateKey, encoding: Encoding, form: PublicFormat) -> bytes:
    return key.public_key().public_bytes(encoding, form)


def _signed(folder: Path, key: Ed25519PrivateKey) -> Path:
    return write_bundle(folder, FILES | {"bundle.sig": sign_manifest(FILES["bundle.toml"], key)})


def test_a_signature_by_a_key_of_the_folder_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))
    keys = tmp_path / "keys"
    keys.mkdir()
    first, second, stranger = (Ed25519PrivateKey.generate() for _ in range(3))
    (keys / "first.pub").write_bytes(_public(first, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (keys / "second.pub").write_bytes(base64.b64encode(_public(second, Encoding.Raw, PublicFormat.Raw)) + b"\n")
    trust = load_trust(keys=keys, require_signature=True)
    assert read_bundle(_signed(tmp_path / "a", first), trust).vouched_by == "key first"
    assert read_bundle(_signed(tmp_path / "b", second), trust).vouched_by == "key second"
    _refused(_signed(tmp_path / "c", stranger), r"by no trusted key.*first, second", trust)
    _refused(write_bundle(tmp_path / "d", FILES), "unsigned", trust)
    _refused(write_bundle(tmp_path / "e", FILES | {"bundle.sig": b"rubbish"}), "by no trusted key", trust)


def test_a_manifest_changed_after_signing_is_refused(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    trust = Trust(keys={"mine": key.public_key()})
    folder = _signed(tmp_path / "b", key)
    assert read_bundle(folder, trust).vouched_by == "key mine"
    (folder / "bundle.toml").write_bytes(FILES["bundle.toml"] + b"# looser\n")
    _refused(folder, "has been changed", trust)


def test_the_users_own_signing_key_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    key = Ed25519PrivateKey.generate()
    (tmp_path / "linegate").mkdir()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "linegate" / "signing.key").write_bytes(pem)
    trust = load_trust(keys=None, require_signature=True)
    assert read_bundle(_signed(tmp_path / "b", key), trust).vouched_by == "key signing.key"


def test_a_shipped_bundle_is_known_by_its_hash_wherever_it_lies(tmp_path: Path) -> None:
    sha = hashlib.sha256(FILES["bundle.toml"]).hexdigest()
    trust = Trust(shipped={"probe-1.0.0": sha})
    assert read_bundle(write_bundle(tmp_path / "copy", FILES), trust).vouched_by == "shipped"
    changed = Trust(shipped={"probe-1.0.0": "0" * 64})
    _refused(tmp_path / "copy", r"not that of the shipped probe-1\.0\.0", changed)


def test_an_unusable_public_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.pub").write_text("not a key")
    with pytest.raises(BundleError, match=r"bad\.pub: no usable public key"):
        load_trust(keys=tmp_path, require_signature=True)


def test_a_name_stands_for_the_highest_version(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0-rc.1", "1.10.0-rc.2", "x"):
        (tmp_path / f"probe-{version}").mkdir()
    (tmp_path / "probe-1.2.0.lgb").touch()
    assert find_bundle("probe", base=tmp_path, folder=tmp_path).name == "probe-1.10.0-rc.2"
    assert find_bundle("probe@1.2.0", base=tmp_path, folder=tmp_path).name == "probe-1.2.0.lgb"
    assert find_bundle("probe-1.9.0", base=tmp_path, folder=tmp_path).name == "probe-1.9.0"
    assert find_bundle("./probe-x", base=tmp_path, folder=None).name == "probe-x"
    for absent in ("prob", "probe@3.0.0", "other", "sub/probe", "probe-2.0.0.lgb"):
        with pytest.raises(BundleError, match="bundle "):
            find_bundle(absent, base=tmp_path, folder=tmp_path)


def test_versions_are_ordered_as_semantic_ones() -> None:
    ordered = ["0.9.10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.0.1", "1.10.0"]
    backwards = ordered[::-1]
    assert sorted(backwards, key=version_key) == ordered
    with pytest.raises(BundleError, match="version"):
        version_key("1.0")


def test_a_name_that_holds_another_bundle_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "other-1.0.0", FILES)
    with pytest.raises(BundleError, match=r"holds probe@1\.0\.0, not other-1\.0\.0"):
        open_bundle("other-1.0.0", base=tmp_path, folder=tmp_path, trust=OPEN)
    write_bundle(tmp_path / "probe-1.0.0", FILES)
    for reference in ("probe", "probe-1.0.0", "probe@1.0.0", "./other-1.0.0"):
        assert open_bundle(reference, base=tmp_path, folder=tmp_path, trust=OPEN).reference == "probe@1.0.0"


def test_what_ships_is_complete_and_trusted() -> None:
    names = sorted(
        path.name for path in shipped_folder().iterdir() if path.is_dir() and (path / "bundle.toml").exists()
    )
    assert names == sorted(shipped_hashes())
    for name in names:
        trust = Trust(shipped=shipped_hashes())
        assert open_bundle(name, base=Path(), folder=None, trust=trust).vouched_by == "shipped"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", FILES)
    os.mkfifo(folder / "pipe")
    _refused(folder, "pipe is no plain file")
