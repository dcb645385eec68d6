"""A package that cannot be imported is told from one that is missing and from our own mistakes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dad_edge import packages
from dad_edge.errors import DadEdgeError, MissingDependency, usable_packages
from dad_edge.packages import CORE, failed_import, reason_of, repair_of

ROOT = Path(__file__).parents[1]

COMMANDS = {
    "bench": ("--seconds", "0.1"),
    "build": ("--precision", "fp32"),
    "calibrate": ("--data", "parts"),
    "demo": ("--parts", "1"),
    "demo-data": ("--out", "x"),
    "doctor": (),
    "evaluate": ("--data", "parts"),
    "export": ("--checkpoint", "run"),
    "export-marks": ("--results", "results", "--out", "x"),
    "import": ("author.pt", "--out", "x"),
    "preview-anomalies": ("--data", "parts"),
    "stream": ("--source", "demo://?parts=1"),
    "train": ("--data", "parts"),
    "verify": (),
}
NEED_TORCH = ("export", "import", "train")
NO_LIBRARY = "raise ImportError('libGL.so.1: cannot open shared object file: No such file')"
KINDS = {
    "missing library": NO_LIBRARY,
    "wrong architecture": "raise OSError('_core.so: wrong ELF class: ELFCLASS32')",
    "other ABI": "raise ValueError('numpy.dtype size changed, may indicate incompatibility')",
    "circle": "import {0}; {0}.part",
    "broken file": "def",
    "not whole": "from {0}._core import part",
    "no permission": "raise PermissionError(13, 'Permission denied', '_core.so')",
}


def broken(folder: Path, package: str, code: str) -> Path:
    """A folder for `PYTHONPATH` with a package that cannot be imported."""
    (folder / "broken" / package).mkdir(parents=True, exist_ok=True)
    (folder / "broken" / package / "__init__.py").write_text(code.format(package))
    return folder / "broken"


def run(folder: Path, *command: str, code: str = "") -> subprocess.CompletedProcess[str]:
    start = ("-c", code) if code else ("-m", "dad_edge")
    return subprocess.run(
        [sys.executable, *start, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder / 'broken'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_two_lines(done: subprocess.CompletedProcess[str], package: str) -> None:
    assert done.returncode == 5, done.stderr
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[-2:]] == ["error", "next"]
    assert f"package '{package}' is installed but cannot be imported: " in lines[-2]
    assert "Traceback" not in done.stderr


def test_all_commands_are_tried_here() -> None:
    from dad_edge.cli.main import app

    assert {command.name for command in app.registered_commands} == COMMANDS.keys()


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"doctor", *NEED_TORCH}))
def test_every_command_says_what_is_broken(tmp_path: Path, command: str) -> None:
    broken(tmp_path, "numpy", NO_LIBRARY)
    done = run(tmp_path, command, *COMMANDS[command])
    assert_two_lines(done, "numpy")
    assert "apt-get install libgl1" in done.stderr


@pytest.mark.parametrize("command", NEED_TORCH)
def test_a_broken_package_of_an_extra(tmp_path: Path, command: str) -> None:
    broken(tmp_path, "torch", KINDS["wrong architecture"])
    assert_two_lines(run(tmp_path, command, *COMMANDS[command]), "torch")


@pytest.mark.parametrize("package", ["cv2", "onnxruntime", "rich", "typer"])
def test_every_package_can_be_the_broken_one(tmp_path: Path, package: str) -> None:
    broken(tmp_path, package, NO_LIBRARY)
    assert_two_lines(run(tmp_path, "demo", "--parts", "1"), package)


def test_a_broken_onnx_keeps_engines_from_being_built(tmp_path: Path) -> None:
    broken(tmp_path, "onnx", KINDS["other ABI"])
    assert_two_lines(run(tmp_path, "build", "--precision", "fp32"), "onnx")


def ours(code: str) -> None:
    """Run code as if it stood in a module of this package."""
    with usable_packages():
        exec(compile(code, "somewhere.py", "exec"), {"__name__": "dad_edge.somewhere"})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.syspath_prepend(broken(tmp_path, "a_package", KINDS[kind]))
    with pytest.raises(MissingDependency) as caught:
        ours("import a_package")
    message = caught.value.message
    assert message.startswith("package 'a_package' is installed but cannot be imported: ")


def test_of_packages_that_need_each_other_the_broken_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(tmp_path, "b_package", "raise OSError('bad')")
    monkeypatch.syspath_prepend(broken(tmp_path, "a_package", "import b_package"))
    with pytest.raises(MissingDependency, match="package 'b_package' is installed but"):
        ours("import a_package")


def test_what_a_package_lacks_is_its_own_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(broken(tmp_path, "a_package", "import no_such_package"))
    with pytest.raises(MissingDependency, match=r"'a_package' is .*: No module named 'no_such_pac"):
        ours("import a_package")


@pytest.mark.parametrize("package", ["cv2", "onnxruntime"])
def test_the_doctor_tells_it_in_its_table(tmp_path: Path, package: str) -> None:
    broken(tmp_path, package, KINDS["other ABI"])
    done = run(tmp_path, "doctor", "--json")
    assert done.returncode == 5
    assert f"package '{package}' does not import: ValueError: numpy.dtype" in done.stdout
    assert "Traceback" not in done.stderr


HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "cv2":
            raise ModuleNotFoundError("No module named 'cv2'", name="cv2")
sys.meta_path.insert(0, Hide())
from importlib import util
seen = util.find_spec
util.find_spec = lambda name: None if name == "cv2" else seen(name)
"""
MAIN = "\nfrom dad_edge.__main__ import main; main()"


def test_a_missing_package_of_the_core_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--parts", "1", code=HIDE + MAIN)
    assert done.returncode == 5
    wanted = "error: package 'cv2' is not installed.\nnext: pip install dad-edge\n"
    assert done.stderr.endswith(wanted)


LEFT = """
import sys, types, numpy
hull = types.ModuleType("cv2"); hull.__path__ = ["/somewhere/cv2"]
sys.modules["cv2"] = hull
"""


def test_the_folder_that_an_uninstall_leaves_is_a_broken_package(tmp_path: Path) -> None:
    assert_two_lines(run(tmp_path, "demo", "--parts", "1", code=LEFT + MAIN), "cv2")


MISTAKES = {
    "a name that a package lacks": "from numpy import no_such_name",
    "a package that nobody has": "import no_such_package",
    "the same by a function": "import importlib; importlib.import_module('no_such_package')",
    "a module that we lack": "import dad_edge.no_such_module",
    "a name that we lack": "from dad_edge.files import no_such_name",
    "a raised error": "raise ImportError('libGL.so.1')",
    "an attribute": "import numpy; numpy.no_such_name",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_our_own_mistakes_stay_as_they_are(mistake: str) -> None:
    with pytest.raises((ImportError, AttributeError)) as caught:
        ours(MISTAKES[mistake])
    assert not isinstance(caught.value, DadEdgeError)


def test_other_errors_are_no_failed_imports() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    assert failed_import(caught.value) is None


def test_the_reason_is_found_below_the_advice_of_numpy() -> None:
    text = "\n\nIMPORTANT: PLEASE READ THIS\n\nOriginal error was: libopenblas.so: no file\n"
    assert reason_of(ImportError(text)) == "libopenblas.so: no file"
    assert reason_of(OSError()) == "OSError: no reason given"


@pytest.mark.parametrize(
    ("installed", "command"),
    [
        (set(), "pip install --force-reinstall opencv-python-headless"),
        ({"opencv-python"}, "pip install --force-reinstall opencv-python"),
        (
            {"opencv-python", "opencv-python-headless"},
            "pip uninstall -y opencv-python opencv-python-headless && "
            "pip install --force-reinstall opencv-python-headless",
        ),
    ],
)
def test_a_repair_does_not_put_one_opencv_over_another(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], command: str
) -> None:
    monkeypatch.setattr(packages, "_is_installed", installed.__contains__)
    assert repair_of("cv2", "ImportError: broken") == command


def test_the_core_is_what_the_project_file_says() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^dependencies = \[(.+?)^\]", text, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r'"([\w-]+)', listed)) <= set(CORE.values())


@pytest.mark.parametrize("package", ["tenacity", "scipy", "starlette", "uvicorn"])
def test_a_line_without_its_packages_names_the_extra(tmp_path: Path, package: str) -> None:
    code = (
        f"import sys; sys.modules['{package}'] = None; sys.argv = ['dad-edge', *sys.argv[1:]]\n"
        "from dad_edge.cli.main import main; main()"
    )
    sources = ("--source", "demo://?parts=1") * 2
    done = run(tmp_path, "stream", *sources, "--web", "127.0.0.1:0", code=code)
    assert done.returncode == 5, done.stderr
    assert package in done.stderr
    assert "Traceback" not in done.stderr
