"""The threshold of a camera: read from a file, read again when the file changes, written whole."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from dad_edge.bundle import PACKAGED, THRESHOLDS, Bundle, Thresholds
from dad_edge.documents import from_mapping, read_json, to_mapping
from dad_edge.errors import DadEdgeError, ModelError, UsageError
from dad_edge.files import write_json
from dad_edge.image.scene import Scene
from dad_edge.line.config import CameraConfig
from dad_edge.runtime.engines import UNCALIBRATED
from dad_edge.runtime.sidecar import thresholds_for

OWN = "thresholds"
"""Folder of a line with the thresholds that are not those of a bundle."""


class ThresholdFile(Protocol):
    """Where cameras have their image threshold from; methods may be called from any thread."""

    path: Path

    def image_threshold(self, engine: str | None) -> float:
        """Scores above it are defects, of an engine; None for the FP32 graphs."""
        ...

    def write(self, value: float) -> None:
        """Put another image threshold into the file.

        Raises:
            StorageError: the file cannot be written; it stays as it is.
        """
        ...

    def reload(self) -> bool:
        """Read the file again if it changed and then stood still from one call to the next;
        whether it did.

        Raises:
            ModelError: it changed and cannot be used; what was read before holds.
        """
        ...


def check_threshold(value: float) -> float:
    """A number as an image threshold.

    Raises:
        UsageError: it is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise UsageError(
            f"a threshold must lie in [0, 1], got {value}.", "write a share such as 0.55"
        )
    return float(value)


class _Watched:
    """Notices that a file was replaced or edited, once whoever edits it has written all of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._taken = self._seen = self._look()
        self.lock = threading.RLock()

    def _look(self) -> tuple[int, ...]:
        try:
            status = os.stat(self.path)
        except OSError:
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def changed(self) -> bool:
        """Whether it is not as when it was taken last, and is as when this was asked last."""
        before, self._seen = self._seen, self._look()
        if self._seen == self._taken or self._seen != before:
            return False
        self._taken = self._seen
        return True

    def take(self) -> None:
        """What it is now is known."""
        self._taken = self._seen = self._look()


class BundleThresholds:
    """`thresholds.json` of a bundle, the operator's file, for all cameras of the bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.path = bundle.path / THRESHOLDS
        self._watched = _Watched(self.path)
        self._bundle = bundle
        self._of_engine: dict[str | None, Thresholds | None] = {}

    @property
    def scene(self) -> Scene | None:
        """What a frame has to look like."""
        thresholds = self._bundle.thresholds
        return thresholds.scene if thresholds else None

    def of_engine(self, engine: str | None) -> Thresholds | None:
        """What holds for an engine; None where nothing was calibrated."""
        with self._watched.lock:
            if engine not in self._of_engine:
                self._of_engine[engine] = thresholds_for(self._bundle, engine)[0]
            return self._of_engine[engine]

    def image_threshold(self, engine: str | None) -> float:
        thresholds = self.of_engine(engine)
        return thresholds.image_threshold if thresholds else UNCALIBRATED

    def write(self, value: float) -> None:
        """Put another image threshold into the file.

        Raises:
            UsageError: nothing was calibrated, so that there is no file to change.
            StorageError: the file cannot be written; it stays as it is.
        """
        with self._watched.lock:
            if self._bundle.thresholds is None:
                raise UsageError(
                    f"{self._bundle.path} has no {THRESHOLDS}.",
                    "run 'dad-edge calibrate' on good parts, or give the camera a threshold in "
                    "line.toml",
                )
            thresholds = replace(self._bundle.thresholds, image_threshold=check_threshold(value))
            write_json(self.path, to_mapping(thresholds))
            self._watched.take()
            self._hold(thresholds)

    def reload(self) -> bool:
        with self._watched.lock:
            if not self._watched.changed():
                return False
            if not os.path.lexists(self.path):
                raise ModelError(
                    f"{self.path} is gone; the threshold from before holds.", "restore the file"
                )
            self._hold(from_mapping(Thresholds, read_json(self.path), str(self.path)))
            return True

    def _hold(self, thresholds: Thresholds) -> None:
        self._bundle = replace(self._bundle, thresholds=thresholds)
        self._of_engine.clear()


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnThreshold:
    """A file in the line's folder: a threshold that belongs to no bundle's own file."""

    image_threshold: float
    """Scores above it are defects."""
    started_from: float
    """What `line.toml` or the bundle said when the file was made; another value there starts it
    anew."""

    def __post_init__(self) -> None:
        check_threshold(self.image_threshold)


class OwnThresholds:
    """A threshold in the line's folder, for a camera or for a bundle that cannot be written."""

    def __init__(self, path: Path, start: float) -> None:
        """
        Args:
            path: of the file; it is written with the first change.
            start: the threshold as long as there is no file, or one that began elsewhere.
        """
        self.path = path
        self._start = start
        self._value = start
        self._watched = _Watched(path)
        if os.path.lexists(path):
            self._read()

    def image_threshold(self, engine: str | None) -> float:
        return self._value

    def write(self, value: float) -> None:
        with self._watched.lock:
            own = OwnThreshold(image_threshold=check_threshold(value), started_from=self._start)
            write_json(self.path, to_mapping(own))
            self._watched.take()
            self._value = own.image_threshold

    def reload(self) -> bool:
        with self._watched.lock:
            if not self._watched.changed():
                return False
            if not os.path.lexists(self.path):
                self._value = self._start
            else:
                self._read()
            return True

    def _read(self) -> None:
        own = from_mapping(OwnThreshold, read_json(self.path), str(self.path))
        self._value = own.image_threshold if own.started_from == self._start else self._start


class ThresholdBook:
    """The threshold files of a line: one for every bundle, and one for every camera with its
    own."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: of the line.
        """
        self._folder = folder / OWN
        self._bundles: dict[str, BundleThresholds] = {}
        self._files: dict[Path, ThresholdFile] = {}

    def of_bundle(self, bundle: Bundle) -> BundleThresholds:
        """What was calibrated, of a bundle."""
        key = os.path.realpath(bundle.path)
        if key not in self._bundles:
            self._bundles[key] = BundleThresholds(bundle)
        return self._bundles[key]

    def of_camera(self, name: str, camera: CameraConfig, bundle: Bundle) -> ThresholdFile:
        """The file that a camera has its threshold from.

        Raises:
            ModelError: the file is damaged.
        """
        shared = self.of_bundle(bundle)
        if camera.threshold is not None:
            return self._own(self._folder / f"{name}.json", camera.threshold)
        if os.path.realpath(bundle.path) == os.path.realpath(PACKAGED):
            start = shared.image_threshold(None)
            return self._own(self._folder / "bundle of the package.json", start)
        return self._files.setdefault(shared.path, shared)

    def _own(self, path: Path, start: float) -> ThresholdFile:
        if path not in self._files:
            self._files[path] = OwnThresholds(path, start)
        return self._files[path]

    def reload(self) -> tuple[list[ThresholdFile], list[DadEdgeError]]:
        """Look at every file; those that changed, and what is wrong with others."""
        changed: list[ThresholdFile] = []
        errors: list[DadEdgeError] = []
        for file in {id(f): f for f in (*self._bundles.values(), *self._files.values())}.values():
            try:
                if file.reload():
                    changed.append(file)
            except (DadEdgeError, OSError) as error:
                errors.append(
                    error
                    if isinstance(error, DadEdgeError)
                    else ModelError(
                        f"{file.path} cannot be read: {error.strerror}.",
                        "check its permissions; the threshold from before holds",
                    )
                )
        return changed, errors
