"""The other side of `gstreamer`: a program that runs a pipeline and writes its pictures to stdout.

    echo PIPELINE | python3 gstreamer_child.py

It needs the standard library and PyGObject alone, because the Python that has PyGObject is often
the system's and not the one that has this package. Every picture is a `HEAD` and its rows; a head
with width 0 is the end, followed by why.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import Any, BinaryIO

HEAD = struct.Struct("<IIIII")
"""Width, height and bytes a row of a picture in BGR, then its frame rate as a fraction. Of the end:
0, one of the reasons below, bytes of the message, 0, 0."""
ENDED, FAILED, REFUSED, ABSENT = range(4)
"""The pipeline has ended; broke off; cannot be built; there is no PyGObject or no GStreamer."""

_SINK = "dad_edge_frames"
_WAIT_NS = 100_000_000
"""How long the end of the pipeline or of the parent process may go unnoticed."""


def main() -> None:
    # Plugins print to stdout, which would end up between the pictures.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        reason, message = _run(sys.stdin.buffer.read().decode(), out)
        text = message.encode(errors="replace")
        _write(out, HEAD.pack(0, reason, len(text), 0, 0) + text)
    except BrokenPipeError:  # nobody wants more
        pass


def _run(pipeline_text: str, out: BinaryIO) -> tuple[int, str]:
    """Write pictures until the pipeline ends; how it ended, and what it said."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        from gi.repository import GLib, Gst
    except (ImportError, ValueError) as error:
        return ABSENT, str(error)
    Gst.init(None)
    try:
        pipeline = Gst.parse_launch(
            f"{pipeline_text} ! videoconvert ! video/x-raw,format=BGR "
            f"! appsink name={_SINK} drop=true max-buffers=1 sync=false"
        )
    except GLib.Error as error:
        return REFUSED, error.message
    sink, bus, parent = pipeline.get_by_name(_SINK), pipeline.get_bus(), os.getppid()
    try:
        pipeline.set_state(Gst.State.PLAYING)
        while os.getppid() == parent:
            sample = sink.emit("try-pull-sample", _WAIT_NS)
            if sample is not None:
                _write_picture(Gst, sample, out)
            elif (wrong := bus.pop_filtered(Gst.MessageType.ERROR)) is not None:
                return FAILED, wrong.parse_error()[0].message
            elif sink.get_property("eos"):
                return ENDED, ""
        return ENDED, ""
    finally:
        pipeline.set_state(Gst.State.NULL)


def _write_picture(gst: Any, sample: Any, out: BinaryIO) -> None:
    caps = sample.get_caps().get_structure(0)
    width, height = caps.get_int("width").value, caps.get_int("height").value
    known, *rate = caps.get_fraction("framerate")
    buffer = sample.get_buffer()
    mapped, info = buffer.map(gst.MapFlags.READ)
    if not mapped:
        return
    try:
        row = info.size // height
        _write(out, HEAD.pack(width, height, row, *(rate if known else (0, 1))))
        _write(out, info.data[: row * height])
    finally:
        buffer.unmap(info)


def _write(out: BinaryIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[out.write(rest) :]


if __name__ == "__main__":
    main()
