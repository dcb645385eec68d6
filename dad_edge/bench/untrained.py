"""Bundles of untrained networks, for speed only: exported once, kept in a temporary folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dad_edge.bench.case import UNTRAINED
from dad_edge.bundle import MANIFEST, Bundle, open_bundle, write_manifest
from dad_edge.config import ModelConfig
from dad_edge.documents import to_mapping
from dad_edge.errors import DadEdgeError, StorageError, require
from dad_edge.files import new_folder
from dad_edge.machine.environment import package_versions
from dad_edge.model.diffusion import alpha_bar_table

if TYPE_CHECKING:
    from dad_edge.model.ablations import AnyDetector


def untrained_detector(model: ModelConfig) -> AnyDetector:
    """Networks with random weights, none of them all zero, in evaluation mode.

    Raises:
        MissingDependency: PyTorch is not installed.
    """
    torch = require("torch", "train", "make an untrained network")
    from dad_edge.model.ablations import build_detector

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = build_detector(model).eval()
        with torch.no_grad():
            for weight in detector.parameters():
                if not weight.any():
                    weight.normal_(std=0.02)
    return detector


def untrained_bundle(model: ModelConfig) -> Bundle:
    """A bundle of untrained networks; made when it is not yet there, which takes a while.

    Raises:
        MissingDependency: PyTorch or its exporter is not installed.
        StorageError: the temporary folder cannot be written.
    """
    path = cache() / _key(to_mapping(model))
    if (path / MANIFEST).is_file():
        try:
            return open_bundle(path)
        except DadEdgeError:
            shutil.rmtree(path, ignore_errors=True)
    require("onnxscript", "train", "export an untrained network")
    from dad_edge.deploy.export import write_graphs

    detector = untrained_detector(model)
    table = alpha_bar_table(model.schedule)
    with new_folder(path, replace=True) as draft:
        write_graphs(detector, draft)  # type: ignore[arg-type]
        write_manifest(
            draft,
            model=model,
            class_name=UNTRAINED,
            alpha_bar=tuple(float(table[step]) for step in model.lambdas),
            made_with=package_versions(),
        )
    return open_bundle(path)


def writable_copy(bundle: Bundle) -> Bundle:
    """A copy of a bundle in the temporary folder, with the engines built there before."""
    if bundle.path.parent == cache():
        return bundle
    path = cache() / f"copy-{_key(bundle.manifest.sha256)}"
    if not (path / MANIFEST).is_file():
        with new_folder(path, replace=True) as draft:
            shutil.copytree(bundle.path, draft, dirs_exist_ok=True)
    return open_bundle(path)


def _key(what: dict[str, Any]) -> str:
    """Name of a folder for something that was made by exactly this code."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    package = Path(__file__).parents[1]
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def cache() -> Path:
    """The temporary folder of this user.

    Raises:
        StorageError: another user owns a folder of that name.
    """
    path = Path(tempfile.gettempdir()) / f"dad-edge-bench-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise StorageError(
            f"{path} belongs to another user, or is no folder.",
            "set TMPDIR to a folder of your own",
        )
    return path
