"""What differs between two bundles, and whether it can change a verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle, open_bundle
from dad_edge.deploy.pack import is_packed, unpack
from dad_edge.documents import read_json, to_mapping
from dad_edge.graphs.quantize import load_graph
from dad_edge.runtime.sidecar import Sidecar, list_engines, read_sidecar
from dad_edge.signature import SIGNATURE


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same."""

    what: str
    before: str
    after: str
    changes_verdicts: bool
    """Whether the same part may get another verdict for it."""

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """A bundle in a folder, or a packed one for as long as the context lasts.

    Raises:
        UsageError, DataError, ModelError: it is neither, or damaged.
    """
    if not is_packed(path):
        yield open_bundle(path)
        return
    with tempfile.TemporaryDirectory(prefix="dad-edge-") as folder:
        yield unpack(path, Path(folder) / "bundle")


def differences(one: Bundle, other: Bundle) -> list[Difference]:
    """Everything that is not the same in two bundles, what changes verdicts first."""
    found = [
        *_in_settings("model", one.manifest.model, other.manifest.model, True),
        *_in_networks(one, other),
        *_in_settings("thresholds", one.thresholds, other.thresholds, True),
        *_in_mask(one, other),
        *_in_engines(one, other),
        *_in_ranges(one, other),
        *_in_values("made with", one.manifest.made_with, other.manifest.made_with, False),
        *_in_values("signed", _signed(one), _signed(other), False),
    ]
    if one.manifest.class_name != other.manifest.class_name:
        names = one.manifest.class_name, other.manifest.class_name
        found.append(Difference("class name", *names, False))
    return sorted(found, key=lambda each: not each.changes_verdicts)


def difference_table(names: tuple[str, str], found: Sequence[Difference]) -> Table:
    """The differences as a table for the terminal.

    Args:
        names: of both bundles.
        found: what `differences` gives.
    """
    table = Table("what", *names, "verdicts")
    table.columns[0].overflow = "fold"
    for each in found:
        table.add_row(each.what, each.before, each.after, "can change" * each.changes_verdicts)
    return table


def _in_settings(name: str, one: object, other: object, matters: bool) -> Iterator[Difference]:
    yield from _in_values(name, _flat(one), _flat(other), matters)


def _in_values(
    name: str, one: Mapping[str, Any], other: Mapping[str, Any], matters: bool
) -> Iterator[Difference]:
    for key in sorted(one.keys() | other.keys()):
        before, after = (str(values.get(key, "–")) for values in (one, other))
        if before != after:
            # How often scores occurred says something of the parts, and nothing of a verdict.
            told = matters and not key.startswith(("normal_", "target_", "smallest_"))
            if not key.startswith("normal_score_quantiles"):
                yield Difference(f"{name}: {key}", before, after, told)


def _flat(value: object, prefix: str = "") -> dict[str, Any]:
    """A settings object as one level of names with dots; nothing where there is none."""
    mapping = value if isinstance(value, dict) else to_mapping(value) if value else {}
    flat: dict[str, Any] = {}
    for key, inner in mapping.items():
        if isinstance(inner, dict):
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = inner
    return flat


def _in_networks(one: Bundle, other: Bundle) -> Iterator[Difference]:
    for name in (DENOISER, SEGMENTER):
        before, after = one.manifest.sha256[name], other.manifest.sha256[name]
        if before != after:
            said = f"{after[:12]}, {_weights(one.path / name, other.path / name)}"
            yield Difference(name, before[:12], said, True)


def _weights(one: Path, other: Path) -> str:
    """How far the weights of two networks are apart, in words."""
    from onnx import numpy_helper

    before, after = (
        {w.name: numpy_helper.to_array(w) for w in load_graph(path).graph.initializer}
        for path in (one, other)
    )
    apart = []
    for name in before.keys() & after.keys():
        a, b = before[name], after[name]
        if a.shape == b.shape and a.dtype == b.dtype:
            size = float(np.linalg.norm(a.astype(np.float64)))
            apart.append(float(np.linalg.norm(a.astype(np.float64) - b)) / (size or 1.0))
    changed = sum(distance > 0 for distance in apart)
    rest = max(len(before), len(after)) - len(apart)
    if rest:
        return f"{rest} tensors have other shapes, types or names, {changed} other values"
    if not changed:
        return "the same weights in another graph"
    return f"{changed} of {len(apart)} tensors differ, by {max(apart):.1%} at most"


def _in_mask(one: Bundle, other: Bundle) -> Iterator[Difference]:
    def said(bundle: Bundle) -> str:
        return "none" if bundle.ignore is None else f"{bundle.ignore.mean():.2%} of the frame"

    if (one.ignore is None) != (other.ignore is None) or (
        one.ignore is not None and not np.array_equal(one.ignore, other.ignore)  # type: ignore[arg-type]
    ):
        yield Difference("ignore mask", said(one), said(other), True)


def _in_engines(one: Bundle, other: Bundle) -> Iterator[Difference]:
    engines = [
        {name: read_sidecar(bundle, name) for name in list_engines(bundle)}
        for bundle in (one, other)
    ]
    for name in sorted(engines[0].keys() | engines[1].keys()):
        before, after = (each.get(name) for each in engines)
        if before != after:
            yield Difference(f"engine {name}", _engine(before), _engine(after), True)


def _engine(sidecar: Sidecar | None) -> str:
    if sidecar is None:
        return "–"
    outcome = {True: "passed", False: "rejected", None: "not judged"}[sidecar.gate.passed]
    files = ", ".join(sorted(file.sha256[:12] for file in sidecar.files.values()))
    return f"{sidecar.precision}, {outcome}, {files}"


def _in_ranges(one: Bundle, other: Bundle) -> Iterator[Difference]:
    before, after = (b.calibration.ranges if b.calibration else {} for b in (one, other))
    if before != after:
        counts = [sum(map(len, ranges.values())) for ranges in (before, after)]
        yield Difference("activation ranges", f"{counts[0]} tensors", f"{counts[1]} tensors", False)


def _signed(bundle: Bundle) -> dict[str, str]:
    path = bundle.path / SIGNATURE
    return {"by": str(read_json(path).get("public_key"))} if path.is_file() else {}
