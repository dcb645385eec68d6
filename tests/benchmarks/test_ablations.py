"""The study of Table 3 and Table 4 trains what differs, once."""

from __future__ import annotations

from benchmarks.ablations import markdown, training_of, variants
from dad_edge.config import RECIPES


def test_rows_that_differ_in_lambda_alone_share_a_training() -> None:
    rows = variants(RECIPES["nano"])
    trainings = {name: training_of(recipe) for name, (recipe, _) in rows.items()}
    shared = [name for name, training in trainings.items() if training == trainings["DiffusionAD"]]
    assert shared == ["DiffusionAD", "DiffusionAD, λ = 100", "DiffusionAD, λ = 200"]
    others = [name for name in rows if name not in shared]
    assert others == ["SegmentationAD", "DRAEM+", "DenoisingAD", "norm-guided"]
    assert all(trainings[a] != trainings[b] for a in others for b in others if a != b)


def test_a_row_that_failed_has_no_figures() -> None:
    paper = {"image_auroc": 98.8, "pro": 96.0}
    rows = {"good": {"image_auroc": 90.04, "pro": 80.0, "paper": paper}}
    table = markdown(rows | {"failed": {"error": "no memory", "paper": paper}})
    assert table.splitlines()[2:] == [
        "| good | 90.0 | 80.0 | 98.8 | 96.0 |",
        "| failed | – | – | 98.8 | 96.0 |",
    ]
