"""What the accuracy gate reports about an engine, and `verify.json`, which holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dad_edge.gate.judgement import Judgement
from dad_edge.gate.layer_errors import LayerError
from dad_edge.gate.sensitivity import LayerCost


@dataclass(frozen=True, kw_only=True, slots=True)
class GateReport:
    """An engine, what it was compared with, and the result."""

    engine: str
    """Name of the engine."""
    backend: str
    """What ran it, in words."""
    reference: str
    """What ran the reference, in words."""
    threshold_reference: float
    """Scores above it are defects to the reference."""
    threshold_engine: float
    """Scores above it are defects to the engine."""
    threshold_origin: str
    """Where the engine's threshold comes from, in words."""
    judgement: Judgement
    """Figures and outcome."""
    costliest_layers: tuple[LayerCost | LayerError, ...] = ()
    """Layers that cost most accuracy, worst first, where the engine failed."""
    next_step: str | None = None
    """What to do now; None where the engine passed."""


def report_json(report: GateReport) -> dict[str, Any]:
    """A report as `verify.json` holds it."""
    judged = report.judgement
    passed = {"passed": True, "failed": False, "not judged": None}[judged.outcome]
    values: dict[str, Any] = {
        "engine": report.engine,
        "backend": report.backend,
        "reference": report.reference,
        "threshold_reference": report.threshold_reference,
        "threshold_engine": report.threshold_engine,
        "threshold_origin": report.threshold_origin,
        "precision": judged.precision,
        "images": judged.images,
        "source": judged.source,
        "mask_error_max": judged.mask_error_max,
        "score_error_max": judged.score_error_max,
        "auroc_reference": judged.auroc.reference,
        "auroc_engine": judged.auroc.engine,
        "auroc_drop": judged.auroc.drop,
        "pro_reference": judged.pro.reference,
        "pro_engine": judged.pro.engine,
        "pro_drop": judged.pro.drop,
        "tolerance": {
            "mask": judged.tolerance.mask,
            "score": judged.tolerance.score,
            "auroc_drop": judged.tolerance.auroc,
            "pro_drop": judged.tolerance.pro,
            "verdict_flips": judged.tolerance.flips,
        },
        "verdict_flips": [
            {"image": row.name, "reference": row.reference, "engine": row.score}
            for row in judged.flips
        ],
        "worst_images": [
            {
                "image": row.name,
                "mask_error": row.mask_error,
                "reference": row.reference,
                "engine": row.score,
            }
            for row in judged.worst
        ],
        "passed": passed,
        "failures": list(judged.failures),
    }
    if report.next_step is not None:
        values["costliest_layers"] = [asdict(layer) for layer in report.costliest_layers]
        values["next_step"] = report.next_step
    return values | {
        "outcome": judged.outcome,
        "undefined": list(judged.undefined),
        "good_images": judged.good,
        "defective_images": judged.defective,
    }
