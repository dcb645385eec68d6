from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_run import FUSIONS, exported_run, make_run
from tiny import TINY

from dad_edge.bundle import DENOISER, SEGMENTER, open_bundle
from dad_edge.config import Recipe
from dad_edge.deploy.export import OPSET, TOLERANCE, Parity, export, measure_parity, write_graphs
from dad_edge.errors import DadEdgeError, ModelError, StorageError, UsageError
from dad_edge.graphs.lint import lint
from dad_edge.graphs.quantize import to_fp16
from dad_edge.model.checkpoint import write_recipe
from dad_edge.model.detector import Detector
from dad_edge.runtime.inspector import open_inspector


@pytest.fixture(scope="module", params=FUSIONS)
def exported(request: pytest.FixtureRequest) -> tuple[Path, Detector, Parity]:
    return exported_run(request.param)


def test_the_bundle_agrees_with_pytorch(exported: tuple[Path, Detector, Parity]) -> None:
    path, detector, parity = exported
    bundle = open_bundle(path)
    assert max(parity.mask, parity.score) <= TOLERANCE
    assert bundle.manifest.class_name == "plate"
    assert bundle.model == detector.config
    assert bundle.manifest.alpha_bar[0] > bundle.manifest.alpha_bar[1]


def test_other_weights_do_not_agree(exported: tuple[Path, Detector, Parity]) -> None:
    path, detector, _ = exported
    other = Detector(detector.config).eval()
    assert not measure_parity(open_bundle(path), other).passed


def test_graphs_are_of_the_opset_that_every_runtime_reads(
    exported: tuple[Path, Detector, Parity],
) -> None:
    path, _, _ = exported
    for name, operators in ((DENOISER, {"InstanceNormalization"}), (SEGMENTER, {"Resize"})):
        graph = onnx.load(path / name)
        onnx.checker.check_model(graph, full_check=True)
        assert graph.opset_import[0].version == OPSET
        found = {node.op_type for node in graph.graph.node}
        assert operators <= found
        assert not found & {"GroupNormalization", "Attention", "RandomNormalLike", "Sin", "Cos"}


def test_nothing_is_left_to_fold_and_nothing_is_dead(
    exported: tuple[Path, Detector, Parity],
) -> None:
    """The time steps are constants: of their embedding, a chain of Gemm, nothing is left."""
    for name, source in ((DENOISER, "x_t"), (SEGMENTER, "pair")):
        model = onnx.load(exported[0] / name)
        assert [value.name for value in model.graph.input] == [source]
        assert lint(model) == []
        assert lint(to_fp16(model)) == []
        constants = {weight.name for weight in model.graph.initializer} | {""}
        foldable = [node.name for node in model.graph.node if constants.issuperset(node.input)]
        assert foldable == []
        assert "Gemm" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("exported", ["average"], indirect=True)
def test_the_same_weights_give_the_same_bytes(
    exported: tuple[Path, Detector, Parity], tmp_path: Path
) -> None:
    path, detector, _ = exported
    write_graphs(detector, tmp_path)
    for name in (DENOISER, SEGMENTER):
        assert (tmp_path / name).read_bytes() == (path / name).read_bytes()
        model = onnx.load(path / name)
        again = to_fp16(onnx.load(tmp_path / name)).SerializeToString(deterministic=True)
        assert to_fp16(model).SerializeToString(deterministic=True) == again


def test_the_graphs_name_no_file_of_the_makers_machine(
    exported: tuple[Path, Detector, Parity],
) -> None:
    for name in (DENOISER, SEGMENTER):
        content = (exported[0] / name).read_bytes()
        for trace in (str(Path(__file__).parents[2]), "site-packages", ".py"):
            assert trace.encode() not in content


def test_every_batch_size_gives_the_same_answer(
    exported: tuple[Path, Detector, Parity], dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    inspector = open_inspector(open_bundle(exported[0]), threads=1)
    alone = inspector.inspect(bright_frame).score_map
    together = inspector.inspect_batch([dark_frame, bright_frame, dark_frame])[1].score_map
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_disagreement_leaves_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", TINY)
    made, _, _ = exported_run("average")

    def copy_graphs(_: Detector, folder: Path) -> None:  # of the same weights
        for name in (DENOISER, SEGMENTER):
            shutil.copy(made / name, folder)

    monkeypatch.setattr("dad_edge.deploy.export.write_graphs", copy_graphs)
    monkeypatch.setattr(
        "dad_edge.deploy.export.measure_parity", lambda *_: Parity(mask=0.1, score=0.0)
    )
    with pytest.raises(DadEdgeError, match="differ from PyTorch") as caught:
        export(tmp_path / "run", tmp_path / "bundle")
    assert caught.value.exit_code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    make_run(tmp_path / "run", TINY)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "photos.txt").write_text("mine")
    with pytest.raises(StorageError, match="exists already"):
        export(tmp_path / "run", tmp_path / "bundle")
    with pytest.raises(UsageError, match="will not be replaced"):
        export(tmp_path / "run", tmp_path / "bundle", replace=True)
    assert (tmp_path / "bundle" / "photos.txt").read_text() == "mine"


def test_a_checkpoint_of_another_size_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "run", TINY)
    wider = replace(TINY, segmenter=replace(TINY.segmenter, base_width=8))
    write_recipe(tmp_path / "run", Recipe(model=wider))
    with pytest.raises(ModelError, match="does not fit") as caught:
        export(tmp_path / "run", tmp_path / "bundle")
    assert "recipe.toml" in caught.value.next_step
