"""Arrows never point back, the core is light, and the command line starts without the rest."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
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
    "tritonclient",
)
"""Packages that the light core lacks."""

NEEDS_TORCH = {
    "dad_edge.learn.batches",
    "dad_edge.learn.check",
    "dad_edge.deploy.export",
    "dad_edge.model.ablations",
    "dad_edge.model.autoencoder",
    "dad_edge.model.denoiser",
    "dad_edge.model.detector",
    "dad_edge.model.device",
    "dad_edge.model.encoder",
    "dad_edge.model.losses",
    "dad_edge.model.memory",
    "dad_edge.model.noise",
    "dad_edge.model.segmenter",
    "dad_edge.learn.parallel",
    "dad_edge.learn.samples",
    "dad_edge.learn.train",
    "dad_edge.learn.trainer",
}
"""Modules that may import torch as they are imported; every other one works without."""

FLOORS = (
    ("packages", "progress", "scores", "version"),
    ("errors",),
    ("files", "machine"),
    ("documents", "made"),
    ("config", "signature"),
    ("image", "kernels", "model"),
    ("bundle", "data"),
    ("learn", "runtime.seams"),
    ("runtime.inspection",),
    ("runtime.cpu", "runtime.gpu", "runtime.sidecar"),
    ("runtime.engines", "runtime.proof"),
    ("runtime.opening",),
    ("runtime.inspector",),
    ("graphs", "triton"),
    ("deploy", "doctor", "report", "service", "stream"),
    ("line",),
    ("web",),
    ("bench", "gate", "plant"),
    ("cli",),
)
"""Rooms of the house, ground floor first; each imports itself and rooms on floors below it."""

FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FACES = {"dad_edge", "dad_edge.__main__"}
"""Modules that only hand on names of the rooms."""
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


def room_of(module: str) -> str:
    """The room that a module lies in, such as `gate`, or `runtime.cpu` within the runtime."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2] if parts[0] == "runtime" and len(parts) > 1 else parts[:1])


ROOM_OF = {module: room_of(module) for module in MODULES.keys() - FACES - {"dad_edge.runtime"}}


def test_every_room_has_its_floor() -> None:
    assert set(ROOM_OF.values()) == FLOOR.keys()


def test_rooms_import_from_floors_below_them_only() -> None:
    up = [
        f"{module} imports {name}"
        for module, room in ROOM_OF.items()
        for name in IMPORTS[module] & ROOM_OF.keys()
        if room != ROOM_OF[name] and FLOOR[room] <= FLOOR[ROOM_OF[name]]
    ]
    assert up == []


def test_there_is_no_circle() -> None:
    left = {module: names for module, names in IMPORTS.items() if module not in FACES}
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


def test_modules_said_to_need_torch_do() -> None:
    without = f"""
import importlib
for name in {sorted(NEEDS_TORCH)!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert error.name == "torch", error
    else:
        raise SystemExit(f"{{name}} needs no torch")
"""
    done = run(BLOCKED + without)
    assert done.returncode == 0, done.stderr


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


LIGHT = {
    "annotated_doc",
    "dad_edge",
    "msgspec",
    "shellingham",
    "typer",
    "typing_extensions",
}
"""Packages that the command line may import before it knows what it is to do."""

ROOMS_OF_HELP = {
    "bench",
    "cli",
    "config",
    "documents",
    "errors",
    "files",
    "machine",
    "packages",
    "stream",
    "version",
}

LIST_IMPORTED = f"""
import sys
before = set(sys.modules)
sys.argv = ["dad-edge", "--help"]
from dad_edge.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code
imported = set(sys.modules) - before
packages = {{name.partition(".")[0] for name in imported}} - sys.stdlib_module_names
rooms = {{name.split(".")[1] for name in imported if name.startswith("dad_edge.")}}
print(sorted(packages), file=sys.stderr)
assert packages <= {LIGHT!r}, packages - {LIGHT!r}
assert rooms - {{"__main__"}} <= {ROOMS_OF_HELP!r}, rooms - {ROOMS_OF_HELP!r}
"""


def test_help_imports_little() -> None:
    done = run(LIST_IMPORTED)
    assert done.returncode == 0, done.stderr


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
