"""Arrows never point back, the core is light, and the command line starts without the rest."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dad_edge"

HEAVY = (
    "torch",
    "onnxscript",
    "safetensors",
    "openvino",
    "tensorrt",
    "tensorrt_rtx",
    "cuda",
    "pycuda",
)
"""Packages that the light core lacks."""

NEEDS_TORCH = {
    "dad_edge.learn.batches",
    "dad_edge.deploy.export",
    "dad_edge.model.ablations",
    "dad_edge.model.autoencoder",
    "dad_edge.model.denoiser",
    "dad_edge.model.detector",
    "dad_edge.model.losses",
    "dad_edge.model.noise",
    "dad_edge.model.segmenter",
    "dad_edge.learn.parallel",
    "dad_edge.learn.samples",
    "dad_edge.learn.train",
    "dad_edge.learn.trainer",
}
"""Modules that may import torch as they are imported; every other one works without."""

LAYERS = (
    {"errors"},
    {
        "config",
        "model.philox",
        "machine.signals",
        "image.preprocess",
        "image.framing",
        "report.metrics",
    },
    {"bundle"},
    {"data", "model", "kernels"},
    {"runtime"},
    {"learn.train", "learn.preview"},
    {"report.evaluate"},
    {"deploy.export"},
    {"deploy.coverage", "runtime.cpu.lean_engine"},
    {"deploy.ranges"},
    {"deploy.calibrate"},
    {"graphs.lint"},
    {"graphs.quantize"},
    {"graphs.fp16_range", "gate.sensitivity"},
    {"deploy.build"},
    {"gate.verify"},
    {"gate.trade"},
    {"stream"},
    {"bench", "doctor"},
    {"cli"},
)
"""Stages in the order of the data flow; each imports its own layer and the ones before it."""

RANK = {stage: rank for rank, stages in enumerate(LAYERS) for stage in stages}
OUTSIDE = {"build_engines", "calibration", "benchmarks", "tests"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """Modules of this project that a module imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = names & MODULES.keys()
            found |= submodules or {node.module or ""}
    return {name for name in found if name in MODULES or name.split(".")[0] in OUTSIDE}


IMPORTS = {module: imports_of(module) for module in MODULES}


def stage_of(module: str) -> str:
    """The longest ranked name that a module lies in; its own if none is ranked."""
    parts = module.split(".")[1:]
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in RANK), ".".join(parts))


def test_stages_import_upstream_only() -> None:
    back = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in names
        if RANK.get(stage_of(module), len(LAYERS)) < RANK.get(stage_of(name), -1)
    ]
    assert back == []
    assert RANK.keys() <= {stage_of(module) for module in MODULES}


def test_there_is_no_circle() -> None:
    left = {module: set(names) for module, names in IMPORTS.items()}
    while free := {module for module, names in left.items() if not names & left.keys()}:
        left = {module: names for module, names in left.items() if module not in free}
    assert left == {}


def test_nothing_imports_the_command_line() -> None:
    importers = {module for module, names in IMPORTS.items() if "dad_edge.cli.main" in names}
    assert importers <= {"dad_edge.__main__"}


def test_the_package_imports_nothing_outside_itself() -> None:
    outside = {name for names in IMPORTS.values() for name in names if name not in MODULES}
    assert outside == set()


BLOCKED = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )


def test_the_light_core_imports_without_heavy_packages() -> None:
    light = sorted(MODULES.keys() - NEEDS_TORCH)
    assert "dad_edge.runtime.inspector" in light
    done = run(BLOCKED + f"import importlib\nfor name in {light!r}: importlib.import_module(name)")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", sorted(NEEDS_TORCH & MODULES.keys()))
def test_modules_said_to_need_torch_do(module: str) -> None:
    assert any(
        isinstance(node, (ast.Import, ast.ImportFrom)) and "torch" in ast.unparse(node)
        for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    )


HELP_OF_ALL = (
    BLOCKED
    + """
import dad_edge.cli.main as cli

commands = cli.app.registered_commands
names = [command.name or command.callback.__name__.replace("_", "-") for command in commands]
for name in ["", *names]:
    sys.argv = ["dad-edge", *([name] if name else []), "--help"]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, (name, end.code)
    print("helped", name or "all")
heavy = {"cv2", "onnx", "onnxruntime", "numpy"} & sys.modules.keys()
assert not heavy, heavy
"""
)


def test_every_help_works_without_heavy_packages() -> None:
    done = run(HELP_OF_ALL)
    assert done.returncode == 0, done.stderr
    assert "Usage: dad-edge" in done.stdout
    helped = [line for line in done.stdout.splitlines() if line.startswith("helped ")]
    assert len(helped) >= 10


MAIN = "import sys; sys.argv[0] = 'dad-edge'; from dad_edge.cli.main import main; main()"


def seconds_of(code: str, *arguments: str) -> float:
    """Processor time of a new interpreter, which other programs on the machine do not change."""
    before = os.times()
    assert run(code, *arguments).returncode == 0
    after = os.times()
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def test_help_starts_in_half_a_second() -> None:
    began = time.perf_counter()
    best = min(seconds_of(MAIN, "--help") for _ in range(3))
    assert best < 0.5, f"{best:.2f} s of processor time, {time.perf_counter() - began:.2f} s in all"


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ()])
def test_questions_are_answered_on_stdout(arguments: tuple[str, ...]) -> None:
    done = run(MAIN, *arguments)
    assert done.returncode == 0
    assert done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [("no-such-command",), ("--no-such-option",)])
def test_wrong_usage_is_two_lines_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = run(MAIN, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "next"]
