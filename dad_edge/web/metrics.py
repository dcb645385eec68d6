"""Figures of a line for Prometheus, and whether it is alive and ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dad_edge.line.seams import CameraState, LineControl

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(control: LineControl) -> bytes:
    """All figures in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Line(control))
    return generate_latest(registry)


def why_not_ready(control: LineControl) -> list[str]:
    """What keeps the line from inspecting all that it is to inspect; empty if it is ready."""
    reasons = []
    for camera in control.cameras():
        if not camera.online:
            reasons.append(f"{camera.name} is offline: {camera.error or 'no frame came yet'}")
        elif camera.paused:
            reasons.append(f"{camera.name} is paused")
        elif camera.error:
            reasons.append(f"{camera.name}: {camera.error}")
    return reasons


class _Line(Collector):
    def __init__(self, control: LineControl) -> None:
        self._control = control

    def collect(self) -> Iterable[Metric]:
        cameras = self._control.cameras()
        gauges: dict[str, tuple[str, Callable[[CameraState], float]]] = {
            "online": ("Whether frames come in.", lambda c: float(c.online)),
            "paused": ("Whether inspection is paused.", lambda c: float(c.paused)),
            "drift": ("Whether the drift alarm is on.", lambda c: float(bool(c.drift))),
            "threshold": ("Image threshold.", lambda c: c.threshold),
            "frames_per_second": ("Over the last seconds.", lambda c: c.fps),
            "latency_seconds": ("Median from frame to verdict.", lambda c: c.latency_ms / 1000),
        }
        for name, (about, value) in gauges.items():
            gauge = GaugeMetricFamily(f"dad_edge_camera_{name}", about, labels=["camera"])
            for camera in cameras:
                gauge.add_metric([camera.name], value(camera))
            yield gauge
        counts: dict[str, tuple[str, Callable[[CameraState], float]]] = {
            "dropped": ("Frames dropped for newer ones.", lambda c: c.dropped),
            "unreadable": ("Pictures that could not be read.", lambda c: c.unreadable),
        }
        for name, (about, value) in counts.items():
            counter = CounterMetricFamily(f"dad_edge_camera_{name}", about, labels=["camera"])
            for camera in cameras:
                counter.add_metric([camera.name], value(camera))
            yield counter
        verdicts = CounterMetricFamily(
            "dad_edge_frames", "Frames by verdict.", labels=["camera", "verdict"]
        )
        for camera in cameras:
            for verdict, frames in camera.verdicts.items():
                verdicts.add_metric([camera.name, verdict], frames)
        yield verdicts
        yield from self._sinks()

    def _sinks(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily("dad_edge_sink_waiting", "In the queue.", labels=["sink"])
        failing = GaugeMetricFamily("dad_edge_sink_failing", "Whether it fails.", labels=["sink"])
        written = CounterMetricFamily("dad_edge_sink_written", "Items written.", labels=["sink"])
        lost = CounterMetricFamily("dad_edge_sink_lost", "Items lost.", labels=["sink"])
        for sink in self._control.sinks():
            waiting.add_metric([sink.name], sink.waiting)
            failing.add_metric([sink.name], float(bool(sink.error)))
            written.add_metric([sink.name], sink.written)
            lost.add_metric([sink.name], sink.lost)
        yield from (waiting, failing, written, lost)
