"""Runs the stages of all products as far as something has changed, each as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dad_edge.data.layouts import list_items
from dad_edge.errors import DadEdgeError, Interrupted, StorageError
from dad_edge.files import sole_writer, write_json
from dad_edge.machine.signals import StopRequest
from dad_edge.plant.config import Bar, Plant, Product
from dad_edge.plant.stages import EVALUATE, RUN, TRAIN, Stage, is_run_of, stages_of

COMMAND = (sys.executable, "-m", "dad_edge")
RECORD = "stages.json"
_POLL_S = 0.1
Say = Callable[[str], None]
Done = Literal["done", "kept", "failed", "not begun"]


@dataclass(slots=True)
class Outcome:
    """What became of a product."""

    name: str
    stages: dict[str, Done] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float | None] = field(default_factory=dict)
    """In percent; None where they are not defined."""
    problems: list[str] = field(default_factory=list)
    """Why it failed, or what is below its bar."""

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)


def plan(plant: Plant, out: Path) -> dict[str, dict[str, str]]:
    """What a run would do: product → stage → `kept`, or why it is to be done.

    Raises:
        DataError: the images of a product cannot be listed.
    """
    planned: dict[str, dict[str, str]] = {}
    for name, product in plant.products.items():
        record = _record(out / name)
        planned[name] = {
            stage.name: _why(stage, product, record, out / name) or "kept"
            for stage in stages_of(name, product)
        }
    return planned


def run_plant(plant: Plant, out: Path, say: Say) -> list[Outcome]:
    """Bring all products up to date; one that fails does not stop the others.

    A product that another process works on is left to it.

    Args:
        plant: the products.
        out: folder that gets one folder for each of them.
        say: told what happens.

    Raises:
        DataError: the images of a product cannot be listed; nothing was begun.
        Interrupted: a signal came; what was done is kept, and a training is continued next time.
        StorageError: the folder cannot be written.
    """
    for product in plant.products.values():
        list_items(Path(product.data), "train")
    outcomes = []
    with StopRequest() as stop:
        for name, product in plant.products.items():
            outcome = Outcome(name)
            outcomes.append(outcome)
            try:
                with ExitStack() as held:
                    held.enter_context(sole_writer(out / name))
                    _run_product(name, product, out / name, outcome, stop, say)
            except Interrupted:
                raise
            except StorageError as error:
                outcome.problems.append(error.message)
            except DadEdgeError as error:
                outcome.problems.append(f"{error.message} next: {error.next_step}")
            for problem in outcome.problems:
                say(f"{name}: {problem}")
    return outcomes


def _run_product(
    name: str, product: Product, folder: Path, outcome: Outcome, stop: StopRequest, say: Say
) -> None:
    record = _record(folder)
    stages = stages_of(name, product)
    outcome.stages = {stage.name: "not begun" for stage in stages}
    for stage in stages:
        why = _why(stage, product, record, folder)
        if why is None:
            outcome.stages[stage.name] = "kept"
        else:
            say(f"{name}: {stage.name} ({why})")
            outcome.stages[stage.name] = "failed"
            arguments: Sequence[str] = stage.arguments
            if stage.name == TRAIN:
                arguments = _begun_or_continued(stage, product, folder, record)
            _run_stage(stage, arguments, folder, record, outcome, stop)
            if outcome.problems:
                return
            outcome.stages[stage.name] = "done"
        outcome.seconds[stage.name] = record[stage.name]["seconds"]
    if EVALUATE in record and EVALUATE in outcome.stages:
        outcome.figures = _figures(record[EVALUATE]["result"])
    outcome.problems += below(product.bar, outcome.figures)


def _run_stage(
    stage: Stage,
    arguments: Sequence[str],
    folder: Path,
    record: dict[str, Any],
    outcome: Outcome,
    stop: StopRequest,
) -> None:
    """Run a stage and write down that it is done; why it failed goes into the problems."""
    record.pop(stage.name, None)
    command = [*COMMAND, *arguments, "--json"]
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    started = time.monotonic()
    with tempfile.TemporaryFile() as stdout, (folder / "log.txt").open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=stdout, stderr=stderr
        )
        told = False
        while process.poll() is None:
            time.sleep(_POLL_S)
            if stop.requested and not told:
                told = True
                process.send_signal(signal.SIGTERM)
        stdout.seek(0)
        text = stdout.read().decode("utf-8", "replace")
    if stop.requested:
        raise Interrupted(
            f"{outcome.name}: {stage.name} was interrupted; what was done is kept.",
            "run the command again, which goes on from there",
            stop.signal_number,
        )
    if process.returncode:
        said = (folder / "log.txt").read_text(errors="replace")
        start = said.rfind("error: ")
        reason = " ".join(said[start if start >= 0 else -600 :].split())
        outcome.problems.append(
            f"{stage.name} failed with exit code {process.returncode}: {reason}"
        )
        return
    seconds = round(time.monotonic() - started, 1)
    record[stage.name] = {"key": stage.key, "seconds": seconds, "result": _result_in(text)}
    write_json(folder / RECORD, record)


def _begun_or_continued(
    stage: Stage, product: Product, folder: Path, record: dict[str, Any]
) -> list[str]:
    """The arguments of a training: from the start, or to continue what was interrupted.

    A run that lies there and is another one is kept under another name.
    """
    run = folder / RUN
    arguments = list(stage.arguments)
    if record.get("begun") == stage.key and is_run_of(product, run):
        data = arguments[arguments.index("--data") + 1]
        minutes = arguments[arguments.index("--max-minutes") + 1]
        return ["train", "--data", data, "--out", RUN, "--resume", "--max-minutes", minutes]
    if run.exists():
        number = 1
        while (older := folder / f"{RUN}-{number}").exists():
            number += 1
        run.rename(older)
    # Other weights: whatever was made of those before is to be made again.
    record.clear()
    record["begun"] = stage.key
    write_json(folder / RECORD, record)
    return arguments


def _why(stage: Stage, product: Product, record: dict[str, Any], folder: Path) -> str | None:
    """Why a stage is to be run; None if it is not."""
    earlier = record.get(stage.name)
    if earlier is None:
        interrupted = stage.name == TRAIN and record.get("begun") == stage.key
        return "it was interrupted" if interrupted else "it was not done yet"
    if earlier["key"] != stage.key:
        return "what it depends on has changed"
    if stage.name == TRAIN and (folder / RUN).is_dir() and not is_run_of(product, folder / RUN):
        return "another run lies in its place"
    return None if (folder / stage.makes).is_file() else f"{stage.makes} is gone"


def _record(folder: Path) -> dict[str, Any]:
    """What was done of a product; nothing where that cannot be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _result_in(text: str) -> Any:
    """The JSON document of a command without its longest lists, or None."""
    try:
        result = json.loads(text)
    except ValueError:
        return None
    if isinstance(result, dict):
        return {k: v for k, v in result.items() if k not in ("scores", "examples", "environment")}
    return result


def _figures(result: dict[str, Any]) -> dict[str, float | None]:
    """The figures of an evaluation, in percent."""
    figures = {
        name: None if value is None else round(100 * value, 2)
        for name, value in result["summary"].items()
    }
    good = [kind for kind in result["kinds"] if kind["kind"] == "good"]
    bad = [kind for kind in result["kinds"] if kind["kind"] != "good"]

    def share(counts: list[int], of: list[int]) -> float | None:
        return round(100 * sum(counts) / sum(of), 2) if sum(of) else None

    figures["found"] = share(
        [kind["detected_at_threshold"] for kind in bad], [kind["images"] for kind in bad]
    )
    figures["rejected"] = share(
        [kind["false_alarms"] for kind in good], [kind["images"] for kind in good]
    )
    return figures


def below(bar: Bar, figures: dict[str, float | None]) -> list[str]:
    """What of a bar is not reached, in words; a figure that is not defined does not reach it."""
    problems = []
    for name, wanted in asdict(bar).items():
        if wanted is None:
            continue
        value = figures.get(name)
        at_most = name == "rejected"
        if value is None:
            problems.append(f"{name} is not defined, {wanted:g} % was asked for")
        elif value > wanted if at_most else value < wanted:
            limit = "at most" if at_most else "at least"
            problems.append(f"{name} is {value:g} %, {limit} {wanted:g} % was asked for")
    return problems
