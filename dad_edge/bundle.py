"""The bundle: one directory that is the whole deployed inspection."""

from __future__ import annotations

import os
import reprlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from dad_edge.config import ModelConfig
from dad_edge.documents import from_mapping, read_json, to_mapping
from dad_edge.errors import ModelError, UsageError
from dad_edge.files import is_file_name, new_folder, sha256_of, write_json
from dad_edge.image.framing import IGNORE, ignore_in
from dad_edge.image.masks import Mask
from dad_edge.image.pictures import write_picture
from dad_edge.image.scene import Scene
from dad_edge.made import made_here
from dad_edge.model.diffusion import alpha_bar_table
from dad_edge.model.onnx_file import tensor_elsewhere
from dad_edge.signature import (
    TRUSTED_KEYS,
    changed_error,
    changed_files,
    check_signature,
    trusted_keys,
)

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
DENOISER = "denoiser.onnx"
SEGMENTER = "segmenter.onnx"
THRESHOLDS = "thresholds.json"
CALIBRATION = "calibration.json"
ENGINES = "engines"
REPORTS = "reports"
ENVIRONMENT_VARIABLE = "DAD_EDGE_BUNDLE"
PACKAGED = Path(__file__).parent / "pretrained"
_DEMO = "the demo bundle in the package"


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """`bundle.json`: what the networks are and which files belong to them."""

    format: int
    """Version of this format."""
    class_name: str
    """Name of the inspected product."""
    model: ModelConfig
    alpha_bar: tuple[float, ...]
    """ᾱ at each λ of `model.lambdas`."""
    sha256: dict[str, str]
    """Digest of every file that may not be edited."""
    made_with: dict[str, str]
    """Versions of the packages that made it."""

    def __post_init__(self) -> None:
        for name in (DENOISER, SEGMENTER):
            if name not in self.sha256:
                raise UsageError(f"sha256 lacks {name}.", "export the bundle again")
        for name in self.sha256:
            if not is_file_name(name):
                raise UsageError(
                    f"sha256 names {name!r}, which is no file of the bundle.",
                    "export the bundle again",
                )
        levels = len(self.model.lambdas)
        if len(self.alpha_bar) != levels or not all(0 < a < 1 for a in self.alpha_bar):
            raise UsageError(
                f"alpha_bar must be {levels} numbers between 0 and 1, one for each of lambdas, "
                f"got {list(self.alpha_bar)}.",
                "export the bundle again",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """`thresholds.json`: the operator's file, editable without a rebuild."""

    image_threshold: float
    """A part whose score is above this is rejected."""
    pixel_threshold: float
    """Pixels above this are outlined as defective."""
    target_false_reject_rate: float
    """Share of good parts that may be rejected."""
    smallest_supported_rate: float
    """Smallest rate that the number of normal images can support: 1 / (n + 1)."""
    normal_images: int
    """Number of normal images the thresholds come from."""
    normal_score_quantiles: dict[str, float]
    """Scores of the normal images at these quantiles."""
    scene: Scene | None = None
    """Frames outside of it are `invalid`, whatever their score; None checks nothing."""

    def __post_init__(self) -> None:
        shares = {
            "image_threshold": self.image_threshold,
            "pixel_threshold": self.pixel_threshold,
            **{f"normal_score_quantiles[{q!r}]": s for q, s in self.normal_score_quantiles.items()},
        }
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise UsageError(
                    f"{name} must lie in [0, 1], got {share}.",
                    "write a share such as 0.55, not 55 for per cent",
                )
        for name in ("target_false_reject_rate", "smallest_supported_rate"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(
                    f"{name} must lie between 0 and 1, got {getattr(self, name)}.",
                    "write a share such as 0.01, not 1 for per cent",
                )
        if self.normal_images < 1:
            raise UsageError(
                f"normal_images must be at least 1, got {self.normal_images}.",
                "run 'dad-edge calibrate' again, or restore the file",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """`calibration.json`: activation ranges and the images they came from."""

    method: str
    """How the ranges were found."""
    ranges: dict[str, dict[str, tuple[float, float]]]
    """Network file → tensor → (minimum, maximum)."""
    images: dict[str, str] = field(default_factory=dict)
    """Name → sha256 of every calibration image."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle on disk."""

    path: Path
    manifest: Manifest
    thresholds: Thresholds | None
    calibration: Calibration | None
    ignore: Mask | None = None
    """Where nothing is inspected; the operator's picture, of any size."""
    trusted: frozenset[str] | None = None
    """Digests of files that were signed by a trusted key or made here; None where nothing has to
    be signed."""

    @property
    def model(self) -> ModelConfig:
        return self.manifest.model

    @property
    def onnx_digests(self) -> dict[str, str]:
        """sha256 of the two graphs, which every engine records."""
        return {name: self.manifest.sha256[name] for name in (DENOISER, SEGMENTER)}


def find_bundle(named: Path | None = None) -> tuple[Path, str]:
    """Where the bundle of this command is: `--bundle`, the environment, `./bundle`, the demo.

    The demo bundle is taken only where nothing is called `bundle`. What is there but damaged is
    refused by `open_bundle`.

    Returns:
        The folder, and the reason in words, which every command prints.

    Raises:
        UsageError: the variable of the environment is empty, or there is no bundle where one has
            to be signed.
    """
    if named == PACKAGED:
        return PACKAGED, _DEMO
    if named is not None:
        return named, "--bundle"
    value = os.environ.get(ENVIRONMENT_VARIABLE)
    if value is not None:
        if not value.strip():
            raise UsageError(
                f"{ENVIRONMENT_VARIABLE} is set, but empty.",
                f"set it to the folder of a bundle, or run 'unset {ENVIRONMENT_VARIABLE}'",
            )
        return Path(value), ENVIRONMENT_VARIABLE
    local = Path("bundle")
    try:
        local.lstat()
    except FileNotFoundError:
        if TRUSTED_KEYS in os.environ:
            raise UsageError(
                f"no bundle is named, and {TRUSTED_KEYS} is set: the demo bundle is not signed.",
                "name a bundle with --bundle",
            ) from None
        return PACKAGED, _DEMO
    except OSError:
        pass  # what may not be looked at is there all the same
    return local, "./bundle"


def open_bundle(path: Path, *, to_sign: bool = False) -> Bundle:
    """Read and verify a bundle.

    Args:
        path: its folder.
        to_sign: whether it is about to be signed, so that it need not be yet.

    Raises:
        ModelError: a file is missing, changed, or not of this format, or the bundle has to be
            signed and is not.
        DataError: the ignore mask is not a picture, or leaves nothing to inspect.
    """
    if reason := _why_no_bundle(path):
        raise ModelError(
            f"{path} is not a bundle: {reason}.",
            "copy the whole bundle again, name another with --bundle, or make one with "
            "'dad-edge export --checkpoint RUN --out bundle'",
        )
    trusted = None if to_sign else _trusted_in(path)
    mapping = read_json(path / MANIFEST)
    version = mapping.get("format")
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path / MANIFEST}: format {reprlib.repr(version)}, this version reads format "
            f"{FORMAT_VERSION}.",
            "export the bundle again with this version of dad-edge",
        )
    manifest = from_mapping(Manifest, mapping, str(path / MANIFEST))
    _check_lambdas(manifest, path / MANIFEST)
    for name, expected in manifest.sha256.items():
        _check_digest(path / name, expected)
    for name in (DENOISER, SEGMENTER):
        if (tensor := tensor_elsewhere(path / name)) is not None:
            raise ModelError(
                f"{path / name} has the numbers of '{tensor}' in another file, which no digest "
                "covers.",
                "export the bundle again; one graph is one file",
            )
    return Bundle(
        path,
        manifest,
        _read_optional(Thresholds, path / THRESHOLDS),
        _read_optional(Calibration, path / CALIBRATION),
        ignore_in(path),
        trusted,
    )


def _trusted_in(path: Path) -> frozenset[str] | None:
    """What is trusted of a bundle whose manifest a trusted key signed; None if all of it is."""
    keys = trusted_keys()
    if keys is None or os.path.realpath(path) == os.path.realpath(PACKAGED):
        return None
    signature = check_signature(path, keys)
    for name in (MANIFEST, DENOISER, SEGMENTER):
        if name not in signature.files:
            raise ModelError(f"the signature of {path} lacks {name}.", "sign the bundle again")
    # An engine that was changed is not taken, and does not keep others from inspecting.
    own = {n: digest for n, digest in signature.files.items() if not n.startswith(f"{ENGINES}/")}
    if changed := changed_files(path, own):
        raise changed_error(path, changed)
    return frozenset(signature.files.values()) | made_here()


def is_demo(bundle: Bundle) -> bool:
    """Whether a bundle is the demo bundle or has its networks, as a copy does."""
    mapping = read_json(PACKAGED / MANIFEST)
    packaged: dict[str, str] = mapping["sha256"]
    return bundle.onnx_digests.items() <= packaged.items()


def _why_no_bundle(path: Path) -> str | None:
    """Why there is nothing to read in a folder, or None if it has a manifest."""
    try:
        (path / MANIFEST).stat()
    except NotADirectoryError:
        return "it is a file, not a folder"
    except FileNotFoundError:
        if path.is_dir():
            return f"it has no {MANIFEST}"
        if path.is_symlink():
            return f"it is a link to {os.readlink(path)}, which does not exist"
        return "there is no such folder"
    except PermissionError:
        raise
    except OSError as error:
        return str(error.strerror)
    return None


def _check_lambdas(manifest: Manifest, path: Path) -> None:
    """Refuse a manifest that was edited alone: the graphs hold the time steps as constants."""
    model = manifest.model
    expected = alpha_bar_table(model.schedule)[list(model.lambdas)]
    if not np.allclose(manifest.alpha_bar, expected, rtol=1e-6, atol=0):
        raise ModelError(
            f"{path}: alpha_bar {list(manifest.alpha_bar)} is not that of lambdas "
            f"{list(model.lambdas)} and their schedule; one of them was edited.",
            "restore the file; for other lambdas, export the bundle again",
        )


def _check_digest(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ModelError(
            f"{path} is missing from the bundle.", "copy the whole bundle again, or export it again"
        )
    try:
        actual = sha256_of(path)
    except PermissionError:
        raise
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}.", "check the path and its permissions"
        ) from error
    if actual != expected:
        raise ModelError(
            f"{path} was changed: sha256 is {actual[:12]}…, bundle.json says {expected[:12]}….",
            "copy the whole bundle again, or export it again",
        )


S = TypeVar("S")


def _read_optional(cls: type[S], path: Path) -> S | None:
    # A link that leads nowhere is refused, or the defaults would take over without a word.
    return from_mapping(cls, read_json(path), str(path)) if os.path.lexists(path) else None


def writable_bundle(path: Path) -> Path:
    """The bundle to write into: a copy in `./bundle` where the given one is inside the package.

    Raises:
        StorageError: `./bundle` is taken or cannot be written.
    """
    if os.path.realpath(path) != os.path.realpath(PACKAGED):
        return path
    target = Path("bundle")
    with new_folder(target) as draft:
        shutil.copytree(path, draft, dirs_exist_ok=True)
    return target


def write_manifest(
    folder: Path,
    *,
    model: ModelConfig,
    class_name: str,
    alpha_bar: tuple[float, ...],
    made_with: dict[str, str],
) -> None:
    """Complete a folder that holds the two graphs to a bundle."""
    manifest = Manifest(
        format=FORMAT_VERSION,
        class_name=class_name,
        model=model,
        alpha_bar=alpha_bar,
        sha256={name: sha256_of(folder / name) for name in (DENOISER, SEGMENTER)},
        made_with=made_with,
    )
    write_json(folder / MANIFEST, to_mapping(manifest))


def write_thresholds(bundle: Bundle, thresholds: Thresholds) -> None:
    """Put the operator's file into a bundle."""
    write_json(bundle.path / THRESHOLDS, to_mapping(thresholds))


def write_ignore(folder: Path, ignore: Mask) -> None:
    """Put an ignore mask into a bundle or a run: white where nothing is inspected."""
    write_picture(folder / IGNORE, ignore.astype(np.uint8) * 255)


def write_calibration(bundle: Bundle, calibration: Calibration) -> None:
    """Put the activation ranges into a bundle and record their digest."""
    write_json(bundle.path / CALIBRATION, to_mapping(calibration))
    mapping = to_mapping(bundle.manifest)
    mapping["sha256"][CALIBRATION] = sha256_of(bundle.path / CALIBRATION)
    write_json(bundle.path / MANIFEST, mapping)
