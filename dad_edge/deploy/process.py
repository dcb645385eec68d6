"""Builds one TensorRT plan in a process of its own.

The memory of a builder goes back to the system before the next network is built, its peak can be
measured, and a builder that crashes or is killed for want of memory ends that process alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dad_edge import errors
from dad_edge.deploy.phases import BuildLog
from dad_edge.deploy.plan import PlanJob, build_plan, check_stop
from dad_edge.deploy.traffic import Traffic, read_layers, traffic_of
from dad_edge.documents import from_mapping, read_json, to_mapping
from dad_edge.errors import DadEdgeError, DeviceError, Interrupted, StorageError, writing
from dad_edge.files import sha256_of, write_whole
from dad_edge.machine.child import python_command
from dad_edge.machine.environment import peak_memory_mib
from dad_edge.machine.signals import StopRequest
from dad_edge.progress import Progress

LOG = "build.log"
_CHILD = "from dad_edge.deploy.process import main; main()"
_POLL_S = 0.2
_PATIENCE_S = 2.0
"""Seconds that a builder gets to heed a signal before it is killed; it has nothing to save."""


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan on disk."""

    sha256: str
    bytes: int
    peak_memory_mib: float
    """Largest memory of the process that built it."""
    traffic: Traffic | None = None
    """What one pass moves for one frame; None where the builder does not list its layers."""


def build_in_process(
    job: PlanJob, model: bytes, path: Path, stop: StopRequest, progress: Progress
) -> BuiltPlan:
    """Build a plan in a child process and check that the file is what the builder made.

    Args:
        job: what to build.
        model: typed ONNX graph.
        path: file of the plan; messages of the builder are added to `LOG` beside it.
        stop: checked while the child works.
        progress: told of every step.

    Raises:
        Interrupted: a signal asked to stop.
        StorageError: the plan cannot be written, or is not whole.
        DeviceError: the builder failed, crashed or was killed.
        and what `build_plan` raises.
    """
    graph, order = path.with_suffix(".typed.onnx"), path.with_suffix(".job.json")
    with writing(path):
        graph.write_bytes(model)
        write_whole(order, json.dumps(to_mapping(job)).encode())
    last = _run(order, stop, progress)
    graph.unlink()
    order.unlink()
    if "error" in last:
        raise _error_of(last["error"])
    if last["bytes"] != path.stat().st_size or last["sha256"] != sha256_of(path):
        raise StorageError(f"{path.name} was not written whole.", "check the disk, build again")
    traffic = Traffic(**last["traffic"]) if last["traffic"] else None
    return BuiltPlan(last["sha256"], last["bytes"], last["peak_memory_mib"], traffic)


def _run(order: Path, stop: StopRequest, progress: Progress) -> dict[str, Any]:
    """The last message of the child."""
    receiver, sender = os.pipe()
    log = order.with_name(LOG)
    with writing(log), log.open("a", encoding="utf-8") as output:
        child = subprocess.Popen(
            python_command(_CHILD, str(order), str(sender)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(sender,),
            start_new_session=True,  # Ctrl-C reaches only this process, which passes it on
        )
    os.close(sender)
    try:
        with os.fdopen(receiver, "rb", buffering=0) as events:
            last = _follow(events.fileno(), child, stop, progress)
    except BaseException:
        child.kill()
        child.wait()
        raise
    code = child.wait()
    check_stop(stop)
    if not last.keys() & {"bytes", "error"}:
        raise _death_of(code, log)
    return last


def _follow(
    events: int, child: subprocess.Popen[bytes], stop: StopRequest, progress: Progress
) -> dict[str, Any]:
    """Read messages until the child closes the pipe; pass a stop request on."""
    last: dict[str, Any] = {}
    rest, deadline = b"", None
    with selectors.DefaultSelector() as selector:
        selector.register(events, selectors.EVENT_READ)
        while True:
            if stop.requested and deadline is None:
                child.terminate()
                deadline = time.monotonic() + _PATIENCE_S
            if deadline is not None and time.monotonic() > deadline:
                child.kill()
            if not selector.select(_POLL_S):
                continue
            block = os.read(events, 1 << 16)
            if not block:
                return last
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                last = json.loads(line)
                if "share" in last:
                    progress(last["share"], 1.0, last["phase"])


def _error_of(told: dict[str, Any]) -> DadEdgeError:
    if told["kind"] == "Interrupted":
        return Interrupted(told["message"], told["next_step"], told["exit_code"] - 128)
    kind: type[DadEdgeError] = getattr(errors, told["kind"])
    return kind(told["message"], told["next_step"])


def _death_of(code: int, log: Path) -> DadEdgeError:
    if code == -signal.SIGKILL:
        return DeviceError(
            "the builder was killed, most likely because memory ran out.",
            "close other programs, lower --workspace-mib, or give fewer --frames",
        )
    how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = f"; its last line: {lines[-1]}" if lines else ""
    return DeviceError(f"the builder {how}{said}.", "run 'dad-edge doctor', and build again")


def main() -> None:
    """The child process: build, write the plan, report the outcome."""
    order, channel = Path(sys.argv[1]), int(sys.argv[2])
    job = from_mapping(PlanJob, read_json(order), str(order))
    path = order.with_suffix("").with_suffix(".plan")
    log = BuildLog(sys.stdout)

    def tell(message: dict[str, Any]) -> None:
        os.write(channel, json.dumps(message).encode() + b"\n")

    with StopRequest() as stop:

        def progress(done: float, total: float, note: str = "") -> None:
            try:
                tell({"share": done / total, "phase": note})
            except BrokenPipeError:  # the parent has ended, and nobody waits for this plan
                stop.signal_number = stop.signal_number or int(signal.SIGTERM)

        try:
            plan = build_plan(
                job, path.with_suffix(".typed.onnx").read_bytes(), stop, progress, log
            )
            write_whole(path, plan)
            outcome: dict[str, Any] = {
                "bytes": len(plan),
                "sha256": hashlib.sha256(plan).hexdigest(),
                "peak_memory_mib": peak_memory_mib(),
                "traffic": _traffic(job, log),
            }
        except DadEdgeError as error:
            outcome = {
                "error": {
                    "kind": type(error).__name__,
                    "message": error.message,
                    "next_step": error.next_step,
                    "exit_code": error.exit_code,
                }
            }
    log.close()
    with suppress(BrokenPipeError):
        tell(outcome)


def _traffic(job: PlanJob, log: BuildLog) -> dict[str, int] | None:
    """What a frame moves, of the rows that the smallest profile starts at."""
    layers = read_layers(log.layers, rows=min(least for least, _, _ in job.profiles))
    return asdict(traffic_of(layers)) if layers else None
