"""`dad-edge stream`: one source, one bundle, and the sinks that were asked for."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dad_edge.bundle import THRESHOLDS, Bundle, is_demo
from dad_edge.errors import ReaderLeft, UsageError
from dad_edge.files import sole_writer
from dad_edge.machine.environment import package_versions
from dad_edge.machine.signals import StopRequest
from dad_edge.runtime.engines import EngineChoice, with_thresholds
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import choose_engine
from dad_edge.runtime.opening import open_choice
from dad_edge.stream.annotate import Annotator
from dad_edge.stream.dashboard import TerminalSink
from dad_edge.stream.frames import Source
from dad_edge.stream.loop import run_stream
from dad_edge.stream.records import JsonLinesSink, StdoutSink, holds_results
from dad_edge.stream.results import Sink, Summary
from dad_edge.stream.sinks import VideoSink, WindowSink
from dad_edge.stream.sources import KNOWN, open_source
from dad_edge.stream.watch import reopened
from dad_edge.triton.address import is_address
from dad_edge.triton.engine import ask_servers
from dad_edge.version import __version__

RESULTS = "results.jsonl"
VIDEO = "annotated.mp4"

_log = logging.getLogger(__name__)


def stream(
    uri: str | int | None,
    open_bundle: Callable[[], Bundle],
    *,
    engine: str | None = None,
    out: Path | None = None,
    video: bool = False,
    window: bool = False,
    max_frames: int | None = None,
    fresh_noise: bool = False,
    seed: int = 0,
    json_lines: bool = False,
    once: bool = False,
) -> Summary:
    """Inspect a source and show, print and write the results.

    Args:
        uri: as `open_source` takes it; None if the user named none.
        open_bundle: opens the bundle once the arguments are known to fit.
        engine: name of a built engine, or the address of Triton servers; the one that
            `choose_engine` takes if None.
        out: folder for `results.jsonl` and the video; created if needed.
        video: write `annotated.mp4` into `out`.
        window: show annotated frames in a window.
        max_frames: end after so many frames.
        fresh_noise: new noise for every frame.
        seed: key of the noise.
        json_lines: print the records of `results.jsonl` on stdout too.
        once: a camera or stream that breaks off is an error; otherwise it is opened again.

    Raises:
        UsageError: no source, `video` without `out`, or no display for `window`.
        StorageError: `out` holds results already, another run writes there, or it cannot be
            written.
        ReaderLeft: whoever read the records on stdout left, and nothing else took them.
        and what `open_source`, `open_bundle` and `run_stream` raise.
    """
    if uri is None:
        raise UsageError(
            "stream needs a source: --camera N or --source URI.", f"--source takes one of: {KNOWN}"
        )
    if video and out is None:
        raise UsageError("--video needs a folder to write to.", "add --out DIR")
    if engine is not None and is_address(engine) and (fresh_noise or seed):
        raise UsageError(
            "servers draw the noise by themselves.", "leave --seed and --fresh-noise out"
        )
    with ExitStack() as held:
        if out is not None:
            held.enter_context(sole_writer(out))
            _refuse_results(out)
        bundle = open_bundle()
        if engine is not None and is_address(engine):
            choice = with_thresholds(bundle, None)
            opened: Inspector = ask_servers(bundle, engine)
        else:
            choice = choose_engine(bundle, engine)
            opened = open_choice(choice, seed=seed, fresh_noise=fresh_noise, pictures=False)
        inspector = held.enter_context(opened)
        stop = held.enter_context(StopRequest())
        announce(choice, inspector)
        source = open_source(uri, bundle.model.bit_depth)
        if source.live and not once:
            source = reopened(
                source, lambda: open_source(uri, bundle.model.bit_depth), lambda: stop.requested
            )
        if source.live and is_demo(bundle):
            _log.warning(
                "the demo bundle inspects this camera. It knows a drawn product and not your "
                "parts; its verdicts mean nothing here. Name your own bundle with --bundle."
            )
        threshold = inspector.threshold
        annotator = Annotator(threshold, choice.pixel_threshold)
        header = run_header(choice, inspector, source, seed=seed, fresh_noise=fresh_noise)
        sinks: list[Sink] = [WindowSink(annotator)] if window else []
        if out is not None:
            sinks.append(JsonLinesSink.create(out / RESULTS, header, threshold))
            if video:
                sinks.append(VideoSink(out / VIDEO, source, annotator))
        printed = StdoutSink(header, threshold, only=not sinks) if json_lines else None
        if printed is not None:
            sinks.append(printed)
        sinks.append(TerminalSink(_total(source, max_frames), threshold))
        summary = run_stream(source, inspector, sinks, max_frames=max_frames, stop=stop)
        if printed is not None and printed.wants_stop:
            raise ReaderLeft
        return summary


def _refuse_results(out: Path) -> None:
    """Refuse to replace the results of an earlier run."""
    for target in (out / RESULTS, out / VIDEO):
        if target.exists():
            raise holds_results(target)


def announce(choice: EngineChoice, inspector: Inspector) -> None:
    """Log which backend runs, and where its thresholds come from."""
    _log.info("backend: %s", inspector.backend)
    if choice.thresholds is None:
        _log.warning(
            "the bundle has no thresholds; parts are rejected above %s. Run 'dad-edge calibrate' "
            "on good parts.",
            inspector.threshold,
        )
    elif inspector.threshold >= 1:
        _log.warning(
            "image_threshold is %s and no score is above 1: not one part will be rejected. "
            "Correct it in %s.",
            inspector.threshold,
            THRESHOLDS,
        )
    elif choice.sidecar is not None:
        _log.info("thresholds: %s", choice.thresholds_origin)


def run_header(
    choice: EngineChoice, inspector: Inspector, source: Source, *, seed: int, fresh_noise: bool
) -> dict[str, Any]:
    """Everything that the results of a run depend on, for the first line of the log."""
    bundle = choice.bundle
    return {
        "source": source.name,
        "bundle": {
            "name": bundle.path.resolve().name,
            "class_name": bundle.manifest.class_name,
            "size": bundle.model.size,
            "sha256": bundle.onnx_digests,
        },
        "backend": inspector.backend,
        "threshold": inspector.threshold,
        "seed": seed,
        "fresh_noise": fresh_noise,
        "versions": {
            "dad-edge": __version__,
            "python": platform.python_version(),
            **package_versions(),
        },
        "passed_over": list(choice.passed_over),
    }


def _total(source: Source, max_frames: int | None) -> int | None:
    limits = [n for n in (source.length, max_frames) if n is not None]
    return min(limits, default=None)
