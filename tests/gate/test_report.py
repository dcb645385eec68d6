"""`verify.json` keeps its keys and their order; what is new comes last."""

from __future__ import annotations

from dad_edge.gate.judgement import TOLERANCES, Figure, Judgement, Row
from dad_edge.gate.layer_errors import LayerError
from dad_edge.gate.report import GateReport, report_json

BEFORE = [
    "engine",
    "backend",
    "reference",
    "threshold_reference",
    "threshold_engine",
    "threshold_origin",
    "precision",
    "images",
    "source",
    "mask_error_max",
    "score_error_max",
    "auroc_reference",
    "auroc_engine",
    "auroc_drop",
    "pro_reference",
    "pro_engine",
    "pro_drop",
    "tolerance",
    "verdict_flips",
    "worst_images",
    "passed",
    "failures",
]
NEW = ["outcome", "undefined", "good_images", "defective_images"]
ROW = Row(
    name="good/000.png",
    defective=False,
    reference=0.4,
    score=0.6,
    mask_error=0.2,
    flipped=True,
    known=True,
    sound=True,
    digest=1,
)


def _report(
    failures: tuple[str, ...] = (), undefined: tuple[str, ...] = (), next_step: str | None = None
) -> GateReport:
    judged = Judgement(
        precision="int8",
        images=24,
        good=12,
        defective=12,
        source="parts",
        mask_error_max=0.2,
        score_error_max=0.2,
        auroc=Figure(reference=1.0, engine=0.75, undefined=None),
        pro=Figure(reference=None, engine=None, undefined="no marks"),
        tolerance=TOLERANCES["int8"],
        flips=(ROW,),
        worst=(ROW,),
        failures=failures,
        undefined=undefined,
        blind=False,
    )
    return GateReport(
        engine="cpu-onnxruntime-1.2.3-int8",
        backend="this",
        reference="that",
        threshold_reference=0.5,
        threshold_engine=0.5,
        threshold_origin="thresholds.json of the bundle",
        judgement=judged,
        costliest_layers=(LayerError("denoiser.onnx", "stem", 0.1, 0.05),) if failures else (),
        next_step=next_step,
    )


def test_the_keys_and_their_order_stay() -> None:
    passed = report_json(_report())
    assert list(passed) == [*BEFORE, *NEW]
    assert list(passed["tolerance"])[:4] == ["mask", "score", "auroc_drop", "pro_drop"]
    assert passed["passed"] is True
    assert (passed["auroc_drop"], passed["pro_drop"]) == (0.25, None)
    assert passed["verdict_flips"] == [{"image": "good/000.png", "reference": 0.4, "engine": 0.6}]
    assert list(passed["worst_images"][0]) == ["image", "mask_error", "reference", "engine"]


def test_a_failure_comes_with_its_layers_and_the_next_step() -> None:
    failed = report_json(_report(("score error 0.2 is above 0.1",), (), "use FP16"))
    assert list(failed) == [*BEFORE, "costliest_layers", "next_step", *NEW]
    assert (failed["passed"], failed["outcome"]) == (False, "failed")
    assert failed["costliest_layers"] == [
        {"network": "denoiser.onnx", "layer": "stem", "error": 0.1, "own": 0.05}
    ]


def test_what_is_not_judged_neither_passed_nor_failed() -> None:
    open_ = report_json(_report((), ("PRO is not defined: no marks",), "name a folder"))
    assert (open_["passed"], open_["outcome"]) == (None, "not judged")
    assert open_["undefined"] == ["PRO is not defined: no marks"]
    assert open_["next_step"] == "name a folder"
