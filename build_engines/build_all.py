"""Build the engines of every target that can be built on this machine.

    python build_engines/build_all.py                     all targets
    python build_engines/build_all.py --target rtx        one target
    python build_engines/build_all.py --list              what can be built here, and where the rest

A target is a TOML file beside this script. `cpu` and `rtx` are built on any machine, `rtx` ahead
of time by TensorRT-RTX. Engines for a Jetson or a server GPU are built on such a device; elsewhere
they are named with the reason and the commands to run there.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

from dad_edge.bundle import Bundle, find_bundle, open_bundle, writable_bundle
from dad_edge.cli.progress import progress_bar
from dad_edge.config import Precision, RuntimeName
from dad_edge.deploy.build import Target, build, find_target, in_words
from dad_edge.documents import read_toml
from dad_edge.errors import DadEdgeError, DeviceError, MissingDependency
from dad_edge.gate.images import images_of
from dad_edge.gate.table import rejection
from dad_edge.gate.verify import verify
from dad_edge.runtime.engines import why_not_here
from dad_edge.runtime.gpu.tensorrt_api import local_capability
from dad_edge.runtime.sidecar import BuilderOptions, build_command

TARGETS = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetFile:
    """One TOML file: a kind of device and the precisions that suit it."""

    runtime: RuntimeName
    precisions: tuple[Precision, ...]
    compute_capabilities: tuple[str, ...] = ()
    """GPUs of the device; empty for a CPU."""
    frames: tuple[int, ...] = ()
    """Numbers of frames in a batch; the usual ones if left out."""
    options: BuilderOptions = field(default_factory=BuilderOptions)
    """What the device needs other than the defaults."""

    @property
    def commands(self) -> list[str]:
        """The commands that build the target on its device."""
        return [
            build_command(
                self.runtime,
                precision,
                capabilities=self.compute_capabilities,
                frames=self.frames,
                options=self.options,
            )
            for precision in self.precisions
        ]


def target_of(file: TargetFile) -> Target:
    """The build target of a file on this machine.

    Raises:
        MissingDependency, DeviceError: it cannot be built here.
    """
    if file.runtime != "tensorrt":
        return find_target(file.runtime, file.compute_capabilities, file.frames, file.options)
    target = find_target(file.runtime, (), file.frames, file.options)
    if local_capability() not in file.compute_capabilities:
        raise DeviceError(
            f"the GPU here has compute capability {local_capability()}, the target needs "
            f"{' or '.join(file.compute_capabilities)}.",
            "build it on the device",
        )
    return target


def show_target(path: Path) -> None:
    """Say whether a target can be built here, and with which commands."""
    file = read_toml(TargetFile, path)
    try:
        target_of(file)
        print(f"{path.stem}: can be built here")
    except (MissingDependency, DeviceError) as error:
        print(f"{path.stem}: cannot be built here, {error.message} On the device:")
    for command in file.commands:
        print(f"    {command}")


def build_target(bundle: Bundle, path: Path, data: Path | None = None) -> bool:
    """Build all precisions of one target; whether the accuracy gate accepted all of them.

    Args:
        bundle: a checked bundle in a folder that may be written.
        path: file of the target.
        data: data set that the gate judges on; parts of the demo product if None, which judge
            the demo bundle alone.
    """
    file = read_toml(TargetFile, path)
    try:
        target = target_of(file)
    except (MissingDependency, DeviceError):
        show_target(path)
        return True
    accepted = True
    for precision in file.precisions:
        with progress_bar(f"{path.stem} {precision}") as progress:
            sidecar = build(bundle, precision, target, progress)
        print(f"{path.stem}: {in_words(sidecar)}")
        if reason := why_not_here(sidecar):
            print(f"{path.stem}: accuracy gate NOT RUN, {reason}")
            continue
        report = verify(bundle, sidecar.name, images_of(bundle, data))
        if report.next_step is None:
            print(f"{path.stem}: accuracy gate passed")
        else:
            print(f"{path.stem}: {rejection(report)}")
            print(f"{path.stem}: {report.next_step}")
            accepted = False
    return accepted


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is that of the first error, or 1 if the gate said no."""
    names = sorted(path.stem for path in TARGETS.glob("*.toml"))
    parser = argparse.ArgumentParser(description="Build the engines of every target.")
    parser.add_argument("--target", choices=names, help="one target; without it all")
    parser.add_argument("--bundle", type=Path, help="bundle folder, as for dad-edge")
    parser.add_argument("--data", type=Path, help="data set that the accuracy gate judges on")
    parser.add_argument("--list", action="store_true", help="build nothing")
    options = parser.parse_args(arguments)
    chosen = [options.target] if options.target else names
    try:
        if options.list:
            for name in chosen:
                show_target(TARGETS / f"{name}.toml")
            return 0
        path, reason = find_bundle(options.bundle)
        bundle = open_bundle(writable_bundle(path))
        print(f"bundle: {bundle.path} ({reason})")
        accepted = [build_target(bundle, TARGETS / f"{name}.toml", options.data) for name in chosen]
    except DadEdgeError as error:
        print(f"error: {error.message}\nnext: {error.next_step}", file=sys.stderr)
        return error.exit_code
    return 0 if all(accepted) else 1


if __name__ == "__main__":
    sys.exit(main())
