"""A bundle as a model in Triton's repository: each export is a new version."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from dad_edge.bundle import Bundle
from dad_edge.errors import UsageError
from dad_edge.files import new_folder, sole_writer, write_whole
from dad_edge.triton.protocol import BUNDLE, FRAME, HEAT, IMAGE, SCORE, SCORE_MAP, VERDICT

CONFIG, CODE, COPY = "config.pbtxt", "model.py", "bundle"
LARGEST_BATCH = 8
"""Frames that the server gathers for one pass; TensorRT plans have a profile for so many."""
QUEUE_US = 3000
"""How long a frame may wait for others."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LEFT_OUT = shutil.ignore_patterns("reports", "*.log", ".*")
_CODE = '''"""Made by 'dad-edge triton export'; the code of the model is in the package."""

from dad_edge.triton.served import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def export_version(bundle: Bundle, repository: Path, name: str) -> Path:
    """Add a bundle to a model repository, as the next version of a model.

    A server that polls the repository loads it, and lets the version before go once the new one is
    ready; a version that does not load leaves the one before in its place.

    Args:
        bundle: a checked bundle; it is copied with its engines.
        repository: folder that Triton serves; made if it is not there.
        name: of the model.

    Returns:
        Folder of the version.

    Raises:
        UsageError: the name is none for a model.
        StorageError: the repository cannot be written, or another export is under way.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' is no name for a model.", "use letters, digits, '_', '-' and '.'"
        )
    model = repository / name
    with sole_writer(model):
        versions = [int(path.name) for path in model.iterdir() if path.name.isdecimal()]
        folder = model / str(max(versions, default=0) + 1)
        write_whole(model / CONFIG, config_of(name).encode())
        with new_folder(folder) as draft:
            shutil.copytree(bundle.path, draft / COPY, ignore=_LEFT_OUT)
            (draft / CODE).write_text(_CODE, encoding="utf-8")
    return folder


def config_of(name: str) -> str:
    """The configuration of a model, the same for every bundle."""

    def tensor(name: str, kind: str, dims: str, more: str = "") -> str:
        return f'  {{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ]{more} }}'

    inputs = [
        tensor(FRAME, "UINT8", "-1, -1, 3", " optional: true"),
        tensor(IMAGE, "UINT8", "-1", " optional: true"),
    ]
    outputs = [
        tensor(SCORE, "FP32", "1"),
        tensor(VERDICT, "UINT8", "1"),
        tensor(BUNDLE, "UINT8", "32"),
        tensor(SCORE_MAP, "FP32", "-1, -1"),
        tensor(HEAT, "UINT8", "-1, -1"),
    ]
    return "\n".join(
        [
            f'name: "{name}"',
            'backend: "python"',
            f"max_batch_size: {LARGEST_BATCH}",
            "input [",
            ",\n".join(inputs),
            "]",
            "output [",
            ",\n".join(outputs),
            "]",
            "# A model finds its GPU by itself; one instance has all of it.",
            "instance_group [ { kind: KIND_CPU count: 1 } ]",
            f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_US} }}",
            "version_policy { latest { num_versions: 1 } }",
            "",
        ]
    )
