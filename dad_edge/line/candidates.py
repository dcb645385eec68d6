"""The engines that may inspect for some cameras, and which comes next when one fails.

An engine that fails is started again. If it fails once more before it has proved steady, the next
one takes its place. The order is that of `engines_in_order`, which lets in only engines that proved
themselves. When none is left, the first is tried again after a while, for ever.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dad_edge.bundle import Bundle
from dad_edge.errors import UsageError
from dad_edge.line.config import Device
from dad_edge.line.worker import Inspects
from dad_edge.runtime.engines import CPU_RUNTIMES, EngineChoice
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import engines_in_order
from dad_edge.runtime.opening import open_choice
from dad_edge.triton.address import is_address, parse_address
from dad_edge.triton.engine import ask_servers

STEADY = 100
"""After so many frames without a failure, an engine counts as steady again."""
LONGEST_PAUSE_S = 60.0
MOST_LANES = 4
"""Each lane on a CPU takes the memory of the networks once more."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the engines that may inspect for a group of cameras."""

    label: str
    """For people."""
    engine: str | None
    """Its name in the bundle; None for the FP32 graphs."""
    on_gpu: bool
    open: Callable[[], Inspects]
    lanes: int = 1
    """How many of them work side by side."""
    probe: Callable[[], object] | None = None
    """Raises where it cannot be opened; None where it is not gone back to once it has failed."""


class Succession:
    """Which of some engines is at work."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        """
        Args:
            candidates: the best first; at least one.
        """
        self.exhausted = False
        """Whether all of them have failed since one was steady."""
        self._candidates = list(candidates)
        self._position = 0
        self._failures = 0
        self._rounds = 0
        self._good = 0

    @property
    def current(self) -> Candidate:
        """The engine at work, or the one that is to be opened."""
        return self._candidates[self._position]

    @property
    def best(self) -> Candidate:
        """The engine that comes first."""
        return self._candidates[0]

    def go_back(self) -> None:
        """Begin with the first again."""
        self._position = self._failures = self._good = 0

    def worked(self) -> None:
        """Note a frame that was inspected."""
        self._good += 1
        if self._good >= STEADY:
            self._failures = self._rounds = 0
            self.exhausted = False

    def failed(self, *, restart: bool) -> tuple[str, float]:
        """Note a failure and move on.

        Args:
            restart: whether the same engine may be started again.

        Returns:
            What happens then, in words, and for how many seconds to wait before it.
        """
        self._good = 0
        self._failures += 1
        if restart and self._failures == 1:
            return "it is started again", 0.0
        self._failures = 0
        self._position = (self._position + 1) % len(self._candidates)
        if self._position:
            return f"{self.current.label} takes its place", 0.0
        self.exhausted = True
        pause_s = min(LONGEST_PAUSE_S, 2.0 ** min(self._rounds, 10)) * random.uniform(0.75, 1.0)
        self._rounds += 1
        label = self.current.label
        return f"none is left, and {label} is tried again in {pause_s:.0f} s", pause_s


def candidates_of(
    bundle: Bundle, engine: str, device: Device, *, cameras: int, cores: int
) -> list[Candidate]:
    """The engines of a bundle that may inspect here, the best first.

    Args:
        bundle: a checked bundle.
        engine: name of the one to begin with; if empty, the fastest. With the address of Triton
            servers they come first, and then those of this machine.
        device: where they may run, servers left aside.
        cameras: how many share the engine.
        cores: that it may use, if it runs on the CPU.

    Raises:
        UsageError: none runs on the device.
        ModelError: the engine that was named does not fit, or the accuracy gate rejected it.
        DeviceError: it cannot run here, or nothing on this machine gives the right results.
    """
    if is_address(engine):
        return _on_servers(bundle, engine, cameras=cameras, cores=cores)
    choices = engines_in_order(bundle, engine or None)
    fitting = [c for c in choices if device == "auto" or _is_on_gpu(c) == (device == "gpu")]
    if engine and (not fitting or fitting[0].name != engine):
        raise UsageError(
            f"engine '{engine}' does not run on the {device} of this machine.",
            "name another engine or device in line.toml, or leave them out",
        )
    if not fitting:
        raise UsageError(
            f"{bundle.path} has no engine that runs on the {device} of this machine.",
            "write device = 'auto' in line.toml, or make an engine with 'dad-edge build'",
        )
    # Two frames at once on a core each are done sooner than one after the other on both.
    lanes = min(cameras, cores, MOST_LANES)
    return [
        Candidate(
            label=f"engine '{choice.name}'" if choice.name else "the FP32 graphs on the CPU",
            engine=choice.name,
            on_gpu=_is_on_gpu(choice),
            open=partial(_open, choice, cores // lanes),
            lanes=1 if _is_on_gpu(choice) else lanes,
        )
        for choice in fitting
    ]


def _on_servers(bundle: Bundle, engine: str, *, cameras: int, cores: int) -> list[Candidate]:
    """Servers first, and the engines of this machine for as long as no server answers."""
    address = parse_address(engine)
    servers = Candidate(
        label=f"Triton at {', '.join(address.hosts)}",
        engine=None,
        on_gpu=True,  # frames of all cameras go there together
        open=partial(ask_servers, bundle, engine),
        probe=lambda: ask_servers(bundle, engine).close(),
    )
    return [servers, *candidates_of(bundle, "", "auto", cameras=cameras, cores=cores)]


def _is_on_gpu(choice: EngineChoice) -> bool:
    return choice.sidecar is not None and choice.sidecar.runtime not in CPU_RUNTIMES


def _open(choice: EngineChoice, threads: int) -> Inspector:
    inspector = open_choice(choice, threads=threads, pictures=False)
    inspector.scene = None  # the cameras look at the scene, each by thresholds that may change
    return inspector
