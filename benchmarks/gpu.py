"""Everything that needs a GPU, in one command on any CUDA machine: `make gpu`.

    python3 -m benchmarks.gpu --data DIR --minutes 9

Runs with that machine's own Python and packages and downloads nothing. Each part is a process of
its own with a time limit. If a part cannot run, the result says why and the others go on.
`gpu.json`, the bundle with its engines, reports and pictures are written into --out. The exit code
is 1 if a part that could run here failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

try:
    from benchmarks.real_data import error_in, result_in
    from dad_edge.bundle import PACKAGED
    from dad_edge.files import write_json
    from dad_edge.machine.environment import describe_machine
    from dad_edge.machine.gpu import describe_nvidia
except ModuleNotFoundError as error:
    print(
        f"error: package '{error.name}' is not installed in {sys.executable}; all parts need it.\n"
        "next: name a Python that has this project's packages: make gpu PYTHON=python3.11",
        file=sys.stderr,
    )
    sys.exit(5)

ROOT = Path(__file__).parents[1]
OUTPUT_CHARACTERS = 4000
SANITIZER = "compute-sanitizer"
SANITIZER_PLACES = ("/usr/local/cuda/bin", "/opt/cuda/bin")
FOUND_BY_SANITIZER = 9
STUDIES = ("main", "precision", "scaling", "table3", "table4")
PRECISIONS = ("fp16", "int8", "fp32")
GPU_TESTS = "tests/runtime"
"""Folders that hold all GPU tests; other tests need packages that a GPU machine may lack."""
TEST_OPTIONS = (
    *("-m", "gpu", "-p", "no:cacheprovider", "-W", "default"),
    *("-o", "addopts=-ra --import-mode=importlib", "-o", "pythonpath=. tests/support"),
)
"""How the GPU tests run: without the options of plugins that a GPU machine may lack, and without
strictness about the warnings of its packages."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process."""

    name: str
    command: list[str]
    minutes: float
    """Limit of its time."""
    obstacle: str | None = None
    """Why it cannot run here; None if it can."""


def parts(data: Path | None, minutes: float, out: Path) -> list[Part]:
    """The parts to run, in order, each with the reason if it cannot run.

    Args:
        data: data set for the training.
        minutes: of the training.
        out: folder of everything that is written.
    """
    nvidia = describe_nvidia()
    no_package = _missing("cv2", "onnx", "rich", "typer")
    no_gpu = None if nvidia["gpus"] else str(nvidia["reason"] or "there is no NVIDIA GPU")
    no_gpu = no_gpu or no_package
    no_kernels = no_gpu or _missing("cuda.core", "cuda.bindings")
    no_torch = no_gpu or _missing("torch")
    no_fused = no_kernels or no_torch
    no_tests = no_torch or _missing("pytest")
    no_plan = no_kernels or _missing("tensorrt")
    checker = shutil.which(SANITIZER, path=os.pathsep.join([os.environ["PATH"], *SANITIZER_PLACES]))
    no_checker = no_kernels or (None if checker else f"{SANITIZER} is not in PATH")
    python, package = [sys.executable], [sys.executable, "-m", "dad_edge"]
    kernels = [*python, "-m", "benchmarks.kernel_speed"]
    bundle = ["--bundle", str(out / "bundle"), "--json"]

    def check(tool: str) -> Part:
        options = ["--tool", tool, "--error-exitcode", str(FOUND_BY_SANITIZER)]
        command = [checker or SANITIZER, *options, *kernels, "--repeats", "1"]
        return Part(f"{tool} of the kernels", command, 10, no_checker)

    def build(runtime: str, precision: str, obstacle: str | None, *options: str) -> Part:
        command = [*package, "build", "--runtime", runtime, "--precision", precision, *options]
        return Part(f"build {runtime} {precision}", [*command, *bundle], 15, obstacle)

    ahead = [] if nvidia["gpus"] else ["--compute-capability", "8.9"]
    source = ["--data", str(data), "--json"]
    training = ["--size", "paper", "--epochs", "1000000", "--max-minutes", str(minutes)]
    run = str(out / "paper")
    no_training = no_torch or (None if data else "no data set was named: --data DIR")
    return [
        Part("doctor", [*package, "doctor", "--json"], 3, no_package),
        Part("tests", [*python, "-m", "pytest", GPU_TESTS, *TEST_OPTIONS], 15, no_tests),
        check("memcheck"),
        check("racecheck"),
        Part("kernels", kernels, 5, no_kernels),
        Part("fused runtime", [*python, "-m", "benchmarks.fused_speed"], 5, no_fused),
        *(build("tensorrt", precision, no_plan) for precision in PRECISIONS),
        build("tensorrt-rtx", "fp16", no_package or _missing("tensorrt_rtx"), *ahead),
        Part("verify", [*package, "verify", *bundle], 10, no_plan),
        *(
            Part(f"bench {study}", [*package, "bench", "--study", study, *bundle], 12, no_gpu)
            for study in STUDIES
        ),
        Part("demo", [*package, "demo", "--out", str(out / "demo"), *bundle], 5, no_plan),
        Part(
            "training",
            [*package, "train", *source, *training, "--device", "cuda", "--out", run],
            minutes + 5,
            no_training,
        ),
        Part(
            "evaluation",
            [*package, "evaluate", *source, "--checkpoint", run, "--out", str(out / "evaluation")],
            15,
            no_training,
        ),
    ]


def _missing(*modules: str) -> str | None:
    """Which package of these is not installed, in words."""
    for module in modules:
        try:
            is_here = find_spec(module) is not None
        except ModuleNotFoundError:  # the package that the module lies in is missing
            is_here = False
        if not is_here:
            return f"package '{module}' is not installed in {sys.executable}"
    return None


def run_part(part: Part) -> dict[str, Any]:
    """Run one part to its end or its limit; at the limit it ends with all its processes.

    Returns:
        `state`: `done`, `failed` or `cannot run`; `reason` of the latter two; `seconds`,
        `exit_code`, and `result` or the end of `output`.
    """
    if part.obstacle:
        return {"state": "cannot run", "reason": part.obstacle}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    try:
        process = subprocess.Popen(
            part.command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return {"state": "cannot run", "reason": f"{part.command[0]}: {error.strerror}"}
    late = False
    try:
        stdout, stderr = process.communicate(timeout=part.minutes * 60)
    except subprocess.TimeoutExpired:
        late = True
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    row: dict[str, Any] = {
        "state": "done" if process.returncode == 0 else "failed",
        "exit_code": process.returncode,
        "seconds": round(time.perf_counter() - started, 1),
    }
    if late:
        row["reason"] = f"ended after its limit of {part.minutes:g} minutes"
    elif process.returncode:
        row["reason"] = error_in(stderr)
    if (result := result_in(stdout)) is not None:
        return row | {"result": result}
    return row | {"output": stdout[-OUTPUT_CHARACTERS:]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="data set for a timed training at paper size")
    parser.add_argument("--minutes", type=float, default=9.0, help="limit of the training")
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    options = parser.parse_args()
    out = options.out.resolve()
    if not (out / "bundle").exists():
        shutil.copytree(PACKAGED, out / "bundle")
    study: dict[str, Any] = {"schema_version": 2, "study": "gpu", "environment": describe_machine()}
    study["parts"] = rows = {}
    for part in parts(options.data and options.data.resolve(), options.minutes, out):
        print(f"{part.name} …", file=sys.stderr, flush=True)
        rows[part.name] = row = run_part(part)
        reason = f": {row['reason']}" if "reason" in row else f" in {row['seconds']} s"
        print(f"    {row['state']}{reason}", file=sys.stderr, flush=True)
        write_json(out / "gpu.json", study)
    print(out / "gpu.json")
    return 1 if any(row["state"] == "failed" for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
