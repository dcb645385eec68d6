"""What the paper reports: the rows that `bench` sets its own beside.

Source: "DiffusionAD: Denoising Diffusion for Anomaly Detection", arXiv 2303.08730, first version;
the journal version is "Norm-guided One-step Denoising Diffusion for Anomaly Detection", IEEE TPAMI
2025. AUROC and PRO are in percent.
"""

from __future__ import annotations

from dataclasses import dataclass

GPU = "the paper does not name its GPU"

IMAGE_SIZE = 256
"""S of every row, in pixels."""

DENOISER_GFLOP = 563.2
"""One forward pass of the denoising sub-network at 256×256, counted on the authors' code."""
SEGMENTER_GFLOP = 76.0
"""One forward pass of the segmentation sub-network at 256×256, counted on the authors' code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRow:
    """One reported configuration."""

    source: str
    """Table of the paper, or the journal version."""
    method: str
    fps: float
    """Frames per second on a GPU that is not named."""
    image_auroc: float
    """VisA average; four data sets in the journal version."""
    pro: float | None = None
    """VisA average."""
    lambdas: tuple[int, ...] = ()
    """Time steps of the inference; empty where there is no diffusion or they are not stated."""
    gflop: float | None = None
    """Arithmetic of one frame from the two counts above, where the row is one of their sums."""


_ONE_LAMBDA = DENOISER_GFLOP + SEGMENTER_GFLOP

TABLE_3 = (
    PaperRow(
        source="Table 3",
        method="SegmentationAD",
        fps=11.89,
        image_auroc=89.5,
        pro=82.1,
        gflop=SEGMENTER_GFLOP,
    ),
    PaperRow(source="Table 3", method="DRAEM+", fps=10.32, image_auroc=90.6, pro=76.1),
    PaperRow(source="Table 3", method="DenoisingAD", fps=8.57, image_auroc=76.2, pro=60.5),
    PaperRow(
        source="Table 3",
        method="DiffusionAD",
        fps=8.21,
        image_auroc=97.8,
        pro=93.2,
        lambdas=(100, 200),
        gflop=2 * _ONE_LAMBDA,
    ),
)

TABLE_4 = tuple(
    PaperRow(
        source="Table 4",
        method="DiffusionAD",
        fps=fps,
        image_auroc=image_auroc,
        pro=pro,
        lambdas=lambdas,
        gflop=len(lambdas) * _ONE_LAMBDA,
    )
    for lambdas, image_auroc, pro, fps in (
        ((100,), 97.4, 92.4, 8.29),
        ((200,), 97.4, 93.0, 8.31),
        ((100, 200), 97.8, 93.2, 8.21),
    )
)

JOURNAL = PaperRow(source="journal version", method="norm-guided", fps=23.5, image_auroc=98.6)

FPS_ROWS = (*TABLE_3, *TABLE_4, JOURNAL)
