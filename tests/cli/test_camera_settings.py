"""The camera's settings: each mistake is named, secrets stay secret, and `check-config` says what a camera is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config_file import load_config
from bridge.errors import ConfigError
from tests.cli.processes import linegate


def load(folder: Path, camera: str) -> str:
    path = folder / "linegate.toml"
    path.write_text(f"[[stations]]\ncamera = {{{camera}}}\n")
    return load_config(path, {}).stations[0].camera.model_dump_json()


@pytest.mark.parametrize(
    ("camera", "parts"),
    [
        ("kind = 'webcam'", ["stations.0.camera.kind = 'webcam'", "'inline', 'folder', 'video', 'http' or 'genicam'"]),
        ("kind = 'video'", ['camera kind "video" needs the key source']),
        ("kind = 'http'", ['camera kind "http" needs the key url']),
        ("kind = 'genicam'", ['camera kind "genicam" needs the key producer']),
        ("kind = 'http', url = 'cam/shot.jpg'", ["url = 'cam/shot.jpg'", "such as http://10.0.0.7/snapshot.jpg"]),
        ("kind = 'http', url = 'http://u:s3cret@cam/'", ["hold no log-in", "username and password_file"]),
        ("kind = 'video', source = 'rtsp://u:s3cret@cam/'", ["hold no log-in", "username and password_file"]),
        ("password = 's3cret', password_file = 'x'", ["password and password_file are both set"]),
        ("timeout_ms = 5", ["stations.0.camera.timeout_ms = 5", "greater than or equal to 10"]),
        ("timeout_ms = 10001", ["stations.0.camera.timeout_ms = 10001", "less than or equal to 10000"]),
        ("max_age_ms = -1", ["stations.0.camera.max_age_ms = -1", "greater than or equal to 0"]),
        ("max_age_ms = 1001", ["stations.0.camera.max_age_ms = 1001", "less than or equal to 1000"]),
        ("latency_ms = nan", ["stations.0.camera.latency_ms = nan"]),
        ("max_bytes = 3", ["stations.0.camera.max_bytes = 3", "greater than or equal to 1024"]),
        ("auth = 'ntlm'", ["stations.0.camera.auth = 'ntlm'", "'digest' or 'basic'"]),
        ("trigger = 'sw'", ["stations.0.camera.trigger = 'sw'", "'free', 'software' or 'hardware'"]),
        ("sauce = '0'", ["unknown key 'stations.0.camera.sauce'", "'source'"]),
        ("password_file = 'gone'", ["stations.0.camera.password_file", "No such file"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, camera: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, camera)
    for part in parts:
        assert part in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_what_is_relative_counts_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    assert f'"source":"{tmp_path}/clip.avi"' in load(tmp_path, "kind = 'video', source = 'clip.avi'")
    for source in ("0", "/dev/video0", "rtsp://cam/stream"):
        assert f'"source":"{source}"' in load(tmp_path, f"kind = 'video', source = '{source}'")
    assert '"password":"s3cret"' in load(tmp_path, "password_file = 'secret'")


def test_check_config_says_what_the_camera_is(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "secret").chmod(0o600)
    login = 'username = "viewer", password_file = "secret", auth = "basic"'
    (tmp_path / "linegate.toml").write_text(
        f"""
[opcua]
anonymous = true
[[stations]]
name = "east"
camera_offset_mm = 120.0
camera = {{kind = "http", url = "http://10.0.0.7/shot.jpg", timeout_ms = 320, {login}}}
[[stations]]
name = "west"
camera = {{kind = "video", source = "rtsp://10.0.0.8/1", username = "viewer", password = "s3cret", max_age_ms = 90}}
[[stations]]
name = "middle"
"""
    )
    done = linegate(tmp_path, "check-config")
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    told = [line.strip() for line in done.stdout.splitlines() if "camera" in line]
    assert told == [
        "camera: http, a snapshot of http://10.0.0.7/shot.jpg as viewer within 320 ms",
        "camera: video, rtsp://10.0.0.8/1 as viewer, a frame from 90 ms before the part's moment to 60 ms after it",
        "camera: inline, each trigger brings its picture",
        "- east: camera.timeout_ms = 320 is not below the 307.5 ms from the camera to the verdict's deadline: "
        "a part without a frame gets LATE, not the reason",
        '- east: camera.auth = "basic" sends the password readably over http',
        "- west: camera.max_age_ms and max_late_ms allow 150 ms: parts may follow each other in 145.8 ms, "
        "so a frame may be of the part before or behind",
    ]
