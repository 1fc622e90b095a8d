"""Features of many pictures, computed once and kept: a run that was interrupted, or another one, goes on from there."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from threading import get_ident, local

import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.manifest import InputSpec
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import DataError, Sample
from models.toolkit.pictures.prepared import IMAGE, Preparer, mirrored
from models.toolkit.progress import Progress
from models.toolkit.threads import each_in_threads

Features = npt.NDArray[np.float32]
_VERSION = 1


def cache_folder() -> Path:
    """Give where features are kept: `$XDG_CACHE_HOME/linegate`, else `~/.cache/linegate`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "linegate" / "features"


def extract(
    model: onnx.ModelProto,
    samples: Sequence[Sample],
    spec: InputSpec,
    *,
    mirrors: int = 1,
    progress: Progress = lambda _done, _of: None,
) -> Features:
    """Give the model's one output for each picture and its mirror images, pictures x mirrors x features.

    Results are kept in `cache_folder()` by the picture's hash and the model's; raises DataError for a picture that can't
    be read and for a disk that takes nothing more.
    """
    store = _Store(model, spec, mirrors)
    session_of = local()

    def one(sample: Sample) -> Features:
        kept = store.read(sample)
        if kept is not None:
            return kept
        if not hasattr(session_of, "session"):
            session_of.session, session_of.preparer = open_model(model), Preparer(spec)
        tensor = session_of.preparer.tensor(sample)
        rows = [session_of.session.run(None, {IMAGE: mirrored(tensor, number)})[0][0] for number in range(mirrors)]
        return store.keep(sample, np.stack(rows))

    return np.stack(each_in_threads(one, samples, progress=progress))


class _Store:
    """One file for each picture below a folder for each model: whole or not there."""

    def __init__(self, model: onnx.ModelProto, spec: InputSpec, mirrors: int) -> None:
        key = hashlib.sha256(model.SerializeToString() + f"{spec} {mirrors} {_VERSION}".encode()).hexdigest()[:16]
        self._folder = cache_folder() / key
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise DataError(
                f"{self._folder}: features can't be kept there: {exc.strerror}; set XDG_CACHE_HOME"
            ) from exc

    def read(self, sample: Sample) -> Features | None:
        """Give what is kept of a picture; a file that is damaged counts as none."""
        try:
            return np.asarray(np.load(self._folder / f"{sample.sha256}.npy", allow_pickle=False), np.float32)
        except (OSError, ValueError, EOFError):
            return None

    def keep(self, sample: Sample, features: Features) -> Features:
        """Write the features beside their name and rename: a run that is killed leaves no half file."""
        # the same picture may be there twice, and two threads come to it at the same time
        partial = self._folder / f"{sample.sha256}.{os.getpid()}.{get_ident()}.part"
        try:
            packed = io.BytesIO()  # written in one go, so that a full disk gives its own reason
            np.save(packed, features.astype(np.float16))
            partial.write_bytes(packed.getvalue())
            partial.replace(self._folder / f"{sample.sha256}.npy")
        except OSError as exc:
            partial.unlink(missing_ok=True)
            raise DataError(
                f"{partial.parent}: features can't be kept there: {exc.strerror}; set XDG_CACHE_HOME"
            ) from exc
        return features.astype(np.float16).astype(np.float32)
