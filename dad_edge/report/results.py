"""What was measured on a test set, as types, and the JSON of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dad_edge.image.pictures import InspectedImage

SCHEMA_VERSION = 1
"""Version of the layout of report.json."""

Group = Literal["worst", "borderline", "best"]
"""Lists of examples, as `dad_edge.report.examples.pick_examples` defines them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured figure, or the reason why there is none."""

    value: float | None = None
    """The value in [0,1]; None where the test set cannot define it."""
    undefined: str | None = None
    """What the test set lacks, in a few words; given exactly where there is no value."""

    def __post_init__(self) -> None:
        if (self.value is None) == (self.undefined is None):
            raise ValueError(f"a figure has a value or a reason, not {self}")
        if self.value is not None and not 0 <= self.value <= 1:
            raise ValueError(f"a figure lies in [0, 1], not at {self.value}")

    def in_words(self, decimals: int) -> str:
        """The figure for people: per cent, or that it is not defined and why."""
        if self.value is None:
            return f"not defined: {self.undefined}"
        return f"{100 * self.value:.{decimals}f} %"


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The four figures of a test set."""

    image_auroc: Figure
    """Chance that a defective part outscores a good one."""
    pixel_auroc: Figure
    """The same for single pixels."""
    pixel_ap: Figure
    """Average precision over all pixels."""
    pro: Figure
    """Per-region overlap up to a false-positive rate of 0.3."""

    def named(self) -> tuple[tuple[str, str, Figure], ...]:
        """Name, meaning and figure, in the order in which people read them."""
        return (
            ("Image AUROC", "chance that a defective part outscores a good one", self.image_auroc),
            ("Pixel AUROC", "the same for single pixels", self.pixel_auroc),
            ("Pixel AP", "average precision over all pixels", self.pixel_ap),
            ("PRO", "per-region overlap, up to 30 % false-positive pixels", self.pro),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class KindFigures:
    """How the parts of one kind score, at one image threshold."""

    kind: str
    """"good" or the name of the defect kind."""
    images: int
    """Number of images."""
    image_auroc: Figure | None
    """Against the good parts; None for the good parts themselves."""
    mean_score: float
    """Mean image score, in [0,1]."""
    detected_at_threshold: int | None
    """Rejected defective parts; None for good parts."""
    missed: int | None
    """Defective parts that pass; None for good parts."""
    false_alarms: int | None
    """Rejected good parts; None for defects."""

    @property
    def rejected(self) -> int:
        """Parts whose score is above the threshold."""
        return self.detected_at_threshold or self.false_alarms or 0

    @property
    def wrong(self) -> int:
        """Parts with the wrong verdict."""
        return self.missed or self.false_alarms or 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageScore:
    """The score of one image of the test set."""

    name: str
    """File name or other short name."""
    kind: str
    """"good" or the name of the defect kind."""
    score: float
    """Image score in [0,1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Which weights were measured; no paths."""

    form: Literal["bundle", "checkpoint"]
    """What holds them: a bundle, or the checkpoint of a training run."""
    name: str
    """Product that the bundle inspects, or name of the run's folder."""
    sha256: Mapping[str, str]
    """File → hexadecimal digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredModel:
    """The settings of the model that matter to its figures."""

    size: str
    """Name of the model size."""
    image_size: int
    """S, side of the square model input, pixels."""
    lambdas: tuple[int, ...]
    """Partial time steps λ."""
    fusion: str
    """How the results of the λ are joined."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredData:
    """The test set."""

    name: str
    """Name of its folder."""
    layout: str
    """Name of the folder layout."""
    split: str
    """"test" or "train"."""
    images: int
    """Number of images."""
    defective: int
    """Of these with a defect."""
    defective_without_mask: int
    """Of these with the defect marked nowhere; they are not in the pixel figures."""
    sha256: str
    """Digest of all images and masks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What made the figures."""

    backend: str
    """What ran, in words."""
    model: MeasuredModel
    """Settings of the model."""
    weights: Weights
    """Which weights."""
    passed_over: Sequence[str] = ()
    """Engines that were not used although they would have gone first, each with the reason."""
    seed: int
    """Key of the inspector's noise."""
    data: MeasuredData
    """The test set."""
    seconds: float
    """Time for all images, with reading and measuring."""
    images_per_second: float
    """Images in a second of that time."""
    environment: Mapping[str, Any]
    """This machine and installation, as `dad_edge.machine.environment.describe_machine` says it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Report:
    """What was measured on a test set."""

    title: str
    """Heading, such as the name of the product and split."""
    summary: Summary
    """The four figures."""
    threshold: float
    """Image threshold in [0,1]; a part is rejected above it."""
    threshold_origin: str
    """Where the threshold comes from, in a few words."""
    kinds: Sequence[KindFigures]
    """A row for each kind of part, good parts first."""
    context: Context
    """What made the figures."""
    examples: Mapping[Group, Sequence[InspectedImage]]
    """Pictures of the images worth a look."""
    scores: Sequence[ImageScore]
    """Every image of the test set, without pictures."""
    outside_scene: Mapping[str, str] = field(default_factory=dict)
    """Image that the line calls invalid whatever its score → why, in a few words."""


def report_data(report: Report) -> dict[str, Any]:
    """The content of report.json: plain values, without pictures."""
    summary = asdict(report.summary)
    data = {
        "schema_version": SCHEMA_VERSION,
        "title": report.title,
        "summary": {name: figure["value"] for name, figure in summary.items()},
        "undefined": {
            name: figure["undefined"] for name, figure in summary.items() if figure["undefined"]
        },
        "threshold": report.threshold,
        "threshold_origin": report.threshold_origin,
        "kinds": [_kind_data(row) for row in report.kinds],
        "context": context_data(report.context),
        "examples": {
            group: [image.name for image in images] for group, images in report.examples.items()
        },
        "scores": [asdict(score) for score in report.scores],
    }
    if report.outside_scene:
        data["outside_scene"] = dict(report.outside_scene)
    return data


def context_data(context: Context) -> dict[str, Any]:
    """What made the figures, as in report.json."""
    weights = context.weights
    name_key = "class_name" if weights.form == "bundle" else "run"
    passed_over = {"passed_over": list(context.passed_over)} if context.passed_over else {}
    return {
        "backend": context.backend,
        **passed_over,
        "model": asdict(context.model),
        weights.form: {name_key: weights.name, "sha256": weights.sha256},
        "seed": context.seed,
        "data": asdict(context.data),
        "seconds": context.seconds,
        "images_per_second": context.images_per_second,
        "environment": context.environment,
    }


def _kind_data(row: KindFigures) -> dict[str, Any]:
    return asdict(row) | {"image_auroc": row.image_auroc and row.image_auroc.value}
