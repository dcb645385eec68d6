"""The commands between a bundle and the line: calibrate, build, verify."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dad_edge.cli.messages import say
from dad_edge.cli.terminal import (
    BundleOption,
    DataOption,
    JsonOption,
    emit,
    writable_bundle_of,
)
from dad_edge.config import Precision
from dad_edge.errors import DadEdgeError, UsageError

if TYPE_CHECKING:
    from dad_edge.bundle import Bundle
    from dad_edge.gate.images import Images
    from dad_edge.gate.report import GateReport
    from dad_edge.runtime.sidecar import LayerChoice


GateDataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data set to judge on, or a folder of good parts, on which defects are drawn. If left "
        "out, --normal is taken, or for the demo bundle parts of the demo product.",
    ),
]
NormalOption = Annotated[
    Path | None,
    typer.Option(
        "--normal",
        help="Data set that 'calibrate' was given, if it is not --data: it gives the engine's "
        "thresholds, and good parts to judge on.",
    ),
]


RuntimeChoice = Literal["auto", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]
"""A runtime by its name, or the one that suits this machine."""


def calibrate_command(
    data: DataOption,
    bundle: BundleOption = None,
    false_reject_rate: Annotated[
        float, typer.Option(help="Share of good parts that may be rejected.")
    ] = 0.01,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Images for the activation ranges, from calibration/select_images.py."),
    ] = None,
    ignore_mask: Annotated[
        Path | None,
        typer.Option(
            help="Picture that is not black where nothing is inspected; it goes into the bundle."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find thresholds and activation ranges from images of good parts."""
    from dataclasses import replace

    from dad_edge.cli.progress import progress_bar
    from dad_edge.data.layouts import list_items
    from dad_edge.deploy import calibrate as stage
    from dad_edge.documents import to_mapping
    from dad_edge.files import sole_writer
    from dad_edge.image.framing import read_ignore

    items = list_items(data, "train")
    chosen = stage.read_manifest(manifest, items) if manifest else None
    ignore = read_ignore(ignore_mask) if ignore_mask else None
    target = writable_bundle_of(bundle)
    if ignore is not None:
        target = replace(target, ignore=ignore)
    unseen = stage.not_trained_on(target, items)
    with sole_writer(target.path), progress_bar("calibrating") as progress:
        thresholds, ranges = stage.calibrate(
            target,
            unseen,
            false_reject_rate=false_reject_rate,
            range_items=chosen,
            progress=progress,
        )
    say(stage.in_words(thresholds, ranges, left_out=len(items) - len(unseen)))
    if as_json:
        emit({"bundle": str(target.path), "thresholds": to_mapping(thresholds)})


def build_command(
    precision: Annotated[Precision, typer.Option(help="Precision of the engine.")],
    runtime: Annotated[
        RuntimeChoice,
        typer.Option(
            help="auto: TensorRT where it is installed beside a GPU, else on the CPU OpenVINO for "
            "INT8, if it is installed, and ONNX Runtime."
        ),
    ] = "auto",
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(help="Build ahead of time for RTX cards such as 8.6; may be repeated."),
    ] = None,
    frames: Annotated[
        list[int] | None,
        typer.Option(help="Frames in a batch; may be repeated; TensorRT: 1, 2, 4 and 8."),
    ] = None,
    workspace_mib: Annotated[
        int | None, typer.Option(help="Scratch memory of the TensorRT builder in MiB.")
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option(help="0 to 5: how long TensorRT looks for fast kernels.")
    ] = None,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="One plan for GPUs from Ampere on.")
    ] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="A plan for later TensorRT versions too.")
    ] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="INT8: points of image AUROC to lose at most, by keeping layers in float."
        ),
    ] = None,
    data: GateDataOption = None,
    normal: NormalOption = None,
    bundle: BundleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build engines for a device, and run the accuracy gate where they can run."""
    from dad_edge.cli.progress import progress_bar
    from dad_edge.deploy import build as stage
    from dad_edge.gate.images import images_of
    from dad_edge.gate.verify import unseen_proof
    from dad_edge.runtime.engines import why_not_here
    from dad_edge.runtime.sidecar import BuilderOptions, read_sidecar

    target = stage.find_target(
        None if runtime == "auto" else runtime,
        tuple(compute_capability or ()),
        tuple(frames or ()),
        BuilderOptions(
            workspace_mib=workspace_mib,
            optimization_level=optimization_level,
            hardware_compatible=hardware_compatible,
            version_compatible=version_compatible,
        ),
        precision,
    )
    if max_drop is not None and precision != "int8":
        raise UsageError(
            f"--max-drop chooses INT8 layers; the precision is {precision}.",
            "leave it out, or use '--precision int8'",
        )
    chosen = writable_bundle_of(bundle)
    images = images_of(chosen, data, normal)
    layers = choose_layers(chosen, max_drop, images) if max_drop is not None else None
    with progress_bar(f"building {precision}") as progress:
        proof = unseen_proof(chosen, precision, images)
        sidecar = stage.build(chosen, precision, target, progress, layers, proof)
    say(stage.in_words(sidecar))
    if warning := stage.predicted_slower(chosen, sidecar):
        say(warning)
    reports = []
    if reason := why_not_here(sidecar):
        say(f"accuracy gate: NOT RUN, {reason}; run 'dad-edge verify' on the device")
    else:
        reports = judge(chosen, [sidecar.name], images, data, normal)
    if as_json:
        emit(stage.build_json(chosen, read_sidecar(chosen, sidecar.name)))
    fail_unless_passed(reports)


def choose_layers(bundle: Bundle, max_drop: float, images: Images) -> LayerChoice:
    """Find the layers that must stay float, with a progress bar, and say what they cost."""
    from dad_edge.cli.progress import progress_bar
    from dad_edge.gate import trade as stage

    with progress_bar("choosing INT8 layers") as progress:
        trade = stage.trade(bundle, images, max_drop, progress)
    say(stage.in_words(trade))
    return trade.choice


def verify_command(
    engine: Annotated[
        str | None, typer.Option(help="Name of the engine; without it all that can run here.")
    ] = None,
    data: GateDataOption = None,
    normal: NormalOption = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Training run: compare with it on PyTorch, not with the FP32 graphs."),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Compare every layer with FP32 on one image, and judge not."),
    ] = False,
    bundle: BundleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the accuracy gate: compare engines with FP32 on the same noise."""
    from dad_edge.gate import verify as stage
    from dad_edge.gate.images import images_of
    from dad_edge.gate.report import report_json

    chosen = writable_bundle_of(bundle)
    names = [engine] if engine else stage.runnable(chosen)
    images = images_of(chosen, data, normal)
    if layers:
        if checkpoint:
            raise UsageError("--layers compares with the FP32 graphs.", "leave out --checkpoint")
        found = compare_layers(chosen, names, images)
        if as_json:
            emit({"bundle": str(chosen.path), "engines": found})
        return
    reports = judge(chosen, names, images, data, normal, checkpoint)
    draw_engines(chosen, names, images)
    if as_json:
        emit({"bundle": str(chosen.path), "engines": [report_json(report) for report in reports]})
    fail_unless_passed(reports)


def judge(
    bundle: Bundle,
    engines: list[str],
    images: Images,
    data: Path | None,
    normal: Path | None = None,
    checkpoint: Path | None = None,
) -> list[GateReport]:
    """Derive thresholds and run the accuracy gate, with progress bars, and print its table."""
    from rich.console import Console

    from dad_edge.cli.progress import progress_bar
    from dad_edge.deploy import thresholds as engine_thresholds
    from dad_edge.gate import verify
    from dad_edge.gate.table import gate_table

    parts, reason = engine_thresholds.parts_of(bundle, data, normal)
    if reason:
        say(f"thresholds of the engine: not derived, {reason}")
    reference = verify.open_reference(bundle, checkpoint)
    reports = []
    for name in engines:
        if parts and not engine_thresholds.are_derived(bundle, name):
            with progress_bar(f"thresholds {name}") as progress:
                engine_thresholds.derive_thresholds(bundle, name, parts, progress)
        with progress_bar(f"accuracy gate {name}") as progress:
            reports.append(verify.verify(bundle, name, images, progress, reference=reference))
    Console(stderr=True).print(gate_table(reports))
    return reports


def compare_layers(bundle: Bundle, engines: list[str], images: Images) -> list[dict[str, Any]]:
    """Compare engines with FP32 layer by layer on one image, and print the worst layers."""
    from rich.console import Console

    from dad_edge.bundle import REPORTS
    from dad_edge.gate import layers as stage
    from dad_edge.gate.table import layers_table
    from dad_edge.gate.verify import frames_of_proof
    from dad_edge.runtime.inspector import choose_to_judge

    frames = frames_of_proof(images)
    if not frames:
        raise UsageError("there is no image to compare on.", "name a folder of parts with --data")
    found = []
    for name in engines:
        sidecar = choose_to_judge(bundle, name).sidecar
        assert sidecar is not None, "an engine was named"
        folder = bundle.path / REPORTS / name / stage.FOLDER
        layers = stage.compare_layers(bundle, sidecar, frames[-1], folder)
        Console(stderr=True).print(layers_table(layers))
        say("to go on with Polygraphy:\n" + "\n".join(layers.commands))
        found.append(stage.layers_json(layers))
    return found


def draw_engines(bundle: Bundle, engines: list[str], images: Images) -> None:
    """Write a picture of all engines side by side and say where it is."""
    from dad_edge.bundle import REPORTS
    from dad_edge.gate.pictures import ENGINES_PICTURE, engines_sheet
    from dad_edge.image.pictures import write_picture
    from dad_edge.runtime.inspector import choose_to_judge
    from dad_edge.runtime.opening import open_choice, open_graphs
    from dad_edge.runtime.sidecar import read_sidecar

    inspectors = {"FP32 graphs": open_graphs(bundle)}
    path = bundle.path / REPORTS / ENGINES_PICTURE
    with ExitStack() as opened:
        for name in engines:
            sidecar = read_sidecar(bundle, name)
            heading = f"{sidecar.runtime} {sidecar.precision.upper()}"
            inspector = open_choice(choose_to_judge(bundle, name))
            inspectors[heading] = opened.enter_context(inspector)
        write_picture(path, engines_sheet(images, inspectors))
    say(f"pictures: {path}, and of the worst images in {path.parent}/<engine>/")


def fail_unless_passed(reports: list[GateReport]) -> None:
    """Exit code 1 if the accuracy gate said no to an engine, or could not judge it."""
    from dad_edge.gate.table import rejection

    for report in reports:
        if report.next_step is not None:
            raise DadEdgeError(rejection(report), report.next_step)


COMMANDS = {
    "calibrate": calibrate_command,
    "build": build_command,
    "verify": verify_command,
}
"""Name on the command line → function."""
