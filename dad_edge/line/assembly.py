"""From the settings of a line to its cameras, and to the engines that they share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from dad_edge.bundle import Bundle, find_bundle, is_demo, open_bundle
from dad_edge.line.camera import Camera, Hooks, Place
from dad_edge.line.candidates import candidates_of
from dad_edge.line.config import CameraConfig, LineConfig
from dad_edge.line.engines import EngineGroup
from dad_edge.line.intake import Answer, Intake
from dad_edge.line.posted import Posted
from dad_edge.line.thresholds import ThresholdBook
from dad_edge.machine.environment import usable_cores
from dad_edge.runtime.engines import UNCALIBRATED
from dad_edge.stream.frames import Source
from dad_edge.stream.sources import open_source
from dad_edge.stream.watch import watched

_log = logging.getLogger(__name__)

Key = tuple[str, str, str]
"""Cameras with the same bundle, engine and device share an engine."""


OpenSource = Callable[[str | int, int | None], Source]
"""From a source as the user named it, and the bit depth of the model, to the opened source."""


def assemble(
    config: LineConfig, book: ThresholdBook, hooks: Hooks, opened: OpenSource = open_source
) -> tuple[dict[str, Camera], list[EngineGroup]]:
    """The cameras of a line, by name, and the engines that inspect for them.

    Args:
        config: of the line.
        book: gives the cameras their thresholds.
        hooks: take what the cameras have to say.
        opened: opens a source.

    Raises:
        UsageError, DataError, ModelError, DeviceError: a bundle, engine, mask or threshold cannot
            be used.
    """
    bundles: dict[str, Bundle] = {}
    members: dict[Key, list[str]] = {}
    bundle_of: dict[str, Bundle] = {}
    for name, camera in config.cameras.items():
        bundle = _bundle(name, camera, bundles)
        bundle_of[name] = bundle
        key = os.path.realpath(bundle.path), camera.engine, camera.device
        members.setdefault(key, []).append(name)
    on_cpu = sum(device != "gpu" for _, _, device in members)
    cores = max(1, usable_cores() // max(1, on_cpu))
    cameras: dict[str, Camera] = {}
    groups = []
    for (_, engine, _), names in members.items():
        bundle = bundle_of[names[0]]
        device = config.cameras[names[0]].device
        candidates = candidates_of(bundle, engine, device, cameras=len(names), cores=cores)
        intake = Intake(names)

        def hand_on(answer: Answer) -> None:
            cameras[answer.waiting.camera].judge(answer)

        def tell(message: str, told: list[str] = names) -> None:
            for camera in told:
                hooks.happened("engine", camera, message)

        group = EngineGroup(candidates, intake, config.engines, len(names), hand_on, tell)
        groups.append(group)
        for name in names:
            camera = config.cameras[name]
            place = Place(
                bundle,
                intake,
                group,
                book.of_camera(name, camera, bundle),
                book.of_bundle(bundle),
            )
            posted = Posted() if camera.is_posted else None
            opening = _Opening(posted.open if posted else opened, camera, bundle)
            cameras[name] = Camera(name, camera, config.drift, opening, place, hooks, posted)
    return {name: cameras[name] for name in config.cameras}, groups


def _bundle(name: str, camera: CameraConfig, bundles: dict[str, Bundle]) -> Bundle:
    path, reason = find_bundle(Path(camera.bundle) if camera.bundle else None)
    _log.info("%s: bundle %s (%s)", name, path, "as named" if camera.bundle else reason)
    key = os.path.realpath(path)
    if key not in bundles:
        bundles[key] = open_bundle(path)
    if bundles[key].thresholds is None and camera.threshold is None:
        _log.warning(
            "the bundle of %s has no thresholds; parts are rejected above %s. Run 'dad-edge "
            "calibrate' on good parts.",
            name,
            UNCALIBRATED,
        )
    return bundles[key]


class _Opening:
    """Opens the source of a camera, each time that it is needed, and has it watched."""

    def __init__(self, opened: OpenSource, camera: CameraConfig, bundle: Bundle) -> None:
        self._opened = opened
        self._camera = camera
        self._bundle = bundle
        self._is_to_warn = is_demo(bundle)

    def __call__(self) -> Source:
        source = self._opened(self._camera.source, self._bundle.model.bit_depth)
        if source.live and self._is_to_warn:
            self._is_to_warn = False
            _log.warning(
                "the demo bundle inspects %s. It knows a drawn product and not your parts; its "
                "verdicts mean nothing here. Name your own bundle in line.toml.",
                source.name,
            )
        return watched(source)
