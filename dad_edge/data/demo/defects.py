"""Six kinds of damage, each as changes to a part's surface and an exact footprint."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dad_edge.data.demo.part import (
    BOLT_CIRCLE,
    BOLT_HOLES,
    BORE,
    COUNTERSINK,
    HOLE,
    HUB,
    Field,
    Scene,
    Surface,
)

KINDS: tuple[str, ...] = ("scratch", "dent", "stain", "missing_hole", "contamination", "crack")

_FINE = 4
_SHIFT = 4


@dataclass(frozen=True)
class Mark:
    """What a defect does to the picture; each field is (H,W) float32 or absent."""

    footprint: Field
    """Above 0.5 where the part is defective."""
    height: Field | None = None
    """Height added to the surface, in pixels."""
    gain: Field | None = None
    """Factor on the metal's reflectance."""
    rough: Field | None = None
    """0 keeps the direction of the tool marks, 1 scatters light evenly in every direction."""
    tint: Field | None = None
    """(H,W,3) factor on the metal's colour, BGR."""
    shadow: Field | None = None
    """Share of light kept off what lies below."""
    debris: tuple[Field, Field] | None = None
    """(H,W,3) colour in linear light and (H,W) opacity of things that lie on the part."""
    skip_hole: int | None = None
    """A bolt hole that is not there."""


def damage(kind: str, scene: Scene, surface: Surface, rng: np.random.Generator) -> Mark:
    """Draw one defect of a kind on a part.

    Raises:
        ValueError: the kind is unknown.
    """
    makers = {
        "scratch": _scratch,
        "dent": _dent,
        "stain": _stain,
        "missing_hole": _missing_hole,
        "contamination": _contamination,
        "crack": _crack,
    }
    return makers[kind](scene, surface, rng)


def _stroke(scene: Scene, path: npt.NDArray[np.float64], widths: npt.NDArray[np.float64]) -> Field:
    """Paint a polyline of varying width, antialiased: (H,W) float32 in [0,1].

    Args:
        scene: gives the size of the picture.
        path: (N,2) points x, y in pixels.
        widths: (N,) widths in pixels; each segment takes the width at its start.
    """
    corner = np.floor(path.min(axis=0) - widths.max() - 2).astype(int)
    extent = np.ceil(path.max(axis=0) + widths.max() + 2).astype(int) - corner
    canvas = np.zeros((extent[1] * _FINE, extent[0] * _FINE), np.uint8)
    fine = np.rint(((path - corner + 0.5) * _FINE - 0.5) * (1 << _SHIFT)).astype(int)
    for start, end, width in zip(fine[:-1], fine[1:], widths, strict=False):
        thick = max(round(width * _FINE), 1)
        cv2.line(canvas, start.tolist(), end.tolist(), 255, thick, cv2.LINE_AA, _SHIFT)
    small = cv2.resize(canvas, extent.tolist(), interpolation=cv2.INTER_AREA)
    out = np.zeros((scene.size, scene.size), np.float32)
    low, high = np.maximum(corner, 0), np.minimum(corner + extent, scene.size)
    if (high > low).all():
        cut = small[
            low[1] - corner[1] : high[1] - corner[1], low[0] - corner[0] : high[0] - corner[0]
        ]
        out[low[1] : high[1], low[0] : high[0]] = cut.astype(np.float32) / 255
    return out


def _spot(
    scene: Scene, rng: np.random.Generator, inner: float, outer: float, clear: float = 0.0
) -> tuple[float, float]:
    """Choose a point between two radii, in pixels, evenly by area.

    Args:
        scene: the part.
        rng: source of chance.
        inner: smallest distance from the part's centre, in part radii.
        outer: largest distance from the part's centre, in part radii.
        clear: distance to keep from the centres of the bolt holes, in part radii.
    """
    holes = np.asarray([scene.hole_centre(index) for index in range(BOLT_HOLES)])
    while True:
        radius = float(np.sqrt(rng.uniform(inner**2, outer**2)))
        turn = rng.uniform(0, 2 * np.pi)
        x, y = radius * float(np.cos(turn)), radius * float(np.sin(turn))
        if np.hypot(holes[:, 0] - x, holes[:, 1] - y).min() >= clear:
            return scene.centre[0] + scene.unit * x, scene.centre[1] + scene.unit * y


def _wander(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    steps: int,
    stride: float,
    drift: float,
    jitter: float,
) -> npt.NDArray[np.float64]:
    """Walk with a slowly drifting heading and a jitter at each step: (steps+1,2) points."""
    turns = heading + np.cumsum(drift + rng.normal(0, jitter, steps))
    moves = stride * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)]) + np.asarray(start)
    return np.asarray(points, np.float64)


def _blur(field: Field, sigma: float) -> Field:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)


def _scratch(scene: Scene, surface: Surface, rng: np.random.Generator) -> Mark:
    """A tool or another part was dragged over the face: a furrow with a raised burr."""
    px = scene.pixel
    groove = np.zeros((scene.size, scene.size), np.float32)
    steps = int(rng.integers(18, 34))
    start = _spot(scene, rng, HUB, 0.92)
    inward = np.arctan2(scene.centre[1] - start[1], scene.centre[0] - start[0])
    heading = inward + rng.uniform(-1.1, 1.1)
    drift = rng.uniform(-0.025, 0.025)
    for lane in range(int(rng.choice((1, 1, 2, 3)))):
        offset = lane * rng.uniform(3.0, 6.5) * px
        origin = (
            start[0] - offset * float(np.sin(heading)),
            start[1] + offset * float(np.cos(heading)),
        )
        path = _wander(rng, origin, heading, steps, 3.0 * px, drift, 0.012)
        press = np.sin(np.linspace(0.12, np.pi - 0.25, steps + 1)) ** 0.6
        uneven = np.interp(np.linspace(0, 5, steps + 1), np.arange(6), rng.uniform(0.7, 1.2, 6))
        widths = rng.uniform(1.7, 2.7) * px * press * uneven
        first, last = (0, steps) if lane == 0 else sorted(rng.integers(0, steps, 2))
        part = slice(first, max(last, first + 5) + 1)
        groove = np.maximum(groove, _stroke(scene, path[part], widths[part]))
    groove *= surface.cover
    footprint = (_blur(groove, 0.9 * px) > 0.13).astype(np.float32)
    groove = _blur(groove, 0.75 * px)
    wide = _blur(groove, 1.2 * px)
    height = (1.3 * wide - 2.6 * groove) * np.float32(rng.uniform(0.55, 0.9))
    gain = 1 + np.float32(rng.uniform(0.8, 1.3)) * groove
    return Mark(footprint, height=height * px, gain=gain, rough=np.clip(2.2 * wide, 0, 1))


def _dent(scene: Scene, surface: Surface, rng: np.random.Generator) -> Mark:
    """Something hit the face: a smooth hollow with a low rim."""
    px = scene.pixel
    cx, cy = _spot(scene, rng, 0.6, 0.84, clear=0.2)
    long = rng.uniform(10.0, 17.0) * px
    short = long * rng.uniform(0.65, 0.95)
    turn = rng.uniform(0, np.pi)
    dx = surface.x * scene.unit - (cx - scene.centre[0])
    dy = surface.y * scene.unit - (cy - scene.centre[1])
    a = dx * np.float32(np.cos(turn)) + dy * np.float32(np.sin(turn))
    b = dy * np.float32(np.cos(turn)) - dx * np.float32(np.sin(turn))
    bearing = np.arctan2(b, a)
    lumpy = 1 + np.float32(rng.uniform(0.03, 0.1)) * np.sin(2 * bearing + rng.uniform(0, 6.3))
    lumpy += np.float32(rng.uniform(0.02, 0.07)) * np.sin(3 * bearing + rng.uniform(0, 6.3))
    distance = np.sqrt((a / long) ** 2 + (b / short) ** 2) / lumpy
    hollow = np.clip(1 - distance**2, 0, 1) ** 2
    rim = np.clip(1 - np.abs(distance - 0.98) / 0.34, 0, 1) ** 2
    depth = np.float32(rng.uniform(0.26, 0.42) * short)
    height = (0.12 * rim - hollow) * depth
    rough = 0.55 * np.clip(1.15 - distance, 0, 0.5) / 0.5
    gain = 1 - 0.22 * hollow
    footprint = ((distance < 1.08) & (surface.cover > 0.5)).astype(np.float32)
    return Mark(
        footprint,
        height=height.astype(np.float32),
        gain=gain.astype(np.float32),
        rough=rough.astype(np.float32),
    )


_STAINS = (
    (0.22, 0.44, 0.66),
    (0.26, 0.32, 0.40),
    (0.13, 0.24, 0.52),
    (0.58, 0.44, 0.36),
)


def _stain(scene: Scene, surface: Surface, rng: np.random.Generator) -> Mark:
    """Dried oil, coolant or rust: a run of drops that joined, darker towards the edge."""
    px = scene.pixel
    cx, cy = _spot(scene, rng, 0.36, 0.84, clear=0.15)
    heading = rng.uniform(0, 2 * np.pi)
    size = rng.uniform(5.5, 10.0) * px
    blob = np.zeros((scene.size, scene.size), np.float32)
    for drop in range(int(rng.integers(7, 15))):
        along = rng.normal(0, 1.1) * size
        side = rng.normal(0, 0.55) * size
        reach = size * rng.uniform(0.5, 1.25) * (0.6 if drop > 8 else 1.0)
        x = cx - scene.centre[0] + along * np.cos(heading) - side * np.sin(heading)
        y = cy - scene.centre[1] + along * np.sin(heading) + side * np.cos(heading)
        near = (surface.x * scene.unit - np.float32(x)) ** 2
        near += (surface.y * scene.unit - np.float32(y)) ** 2
        blob += np.clip(1 - near / np.float32((1.6 * reach) ** 2), 0, None) ** 2
    film = np.clip((blob - 0.32) / 0.3, 0, 1)
    ring = film * np.clip(1 - np.abs(blob - 0.62) / 0.4, 0, 1)
    amount = _blur(np.clip(0.72 * film + 0.35 * ring, 0, 1), 0.7 * px)
    amount *= np.float32(rng.uniform(0.75, 1.0))
    colour = np.asarray(_STAINS[int(rng.integers(len(_STAINS)))], np.float32)
    colour = np.clip(colour * rng.uniform(0.9, 1.1, 3).astype(np.float32), 0, 1)
    tint = 1 - amount[..., None] * (1 - colour)
    footprint = ((amount > 0.25) & (surface.cover > 0.5)).astype(np.float32)
    return Mark(footprint, gain=1 - 0.2 * amount, rough=0.7 * amount, tint=tint)


def _missing_hole(scene: Scene, surface: Surface, rng: np.random.Generator) -> Mark:
    """One bolt hole is missing: the drill only touched the face and left a burred pilot mark."""
    index = int(rng.integers(BOLT_HOLES))
    hx, hy = scene.hole_centre(index)
    distance = np.hypot(surface.x - hx, surface.y - hy)
    radius = np.float32(rng.uniform(0.05, 0.07))
    cone = np.clip(1 - distance / radius, 0, 1)
    burr = np.clip(1 - np.abs(distance / radius - 1.1) / 0.3, 0, 1) ** 2
    depth = np.float32(rng.uniform(0.6, 0.9)) * radius * scene.unit
    return Mark(
        (distance < COUNTERSINK).astype(np.float32),
        height=((0.2 * burr - cone) * depth).astype(np.float32),
        gain=(1 - 0.45 * np.sqrt(cone)).astype(np.float32),
        rough=(0.6 * (cone > 0)).astype(np.float32),
        skip_hole=index,
    )


def _contamination(scene: Scene, surface: Surface, rng: np.random.Generator) -> Mark:
    """Curled cutting chips or a textile fibre left lying on the part, with their shadows."""
    px = scene.pixel
    shape = (scene.size, scene.size)
    opacity, relief = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    colour = np.zeros((*shape, 3), np.float32)
    lx, ly = scene.lights[0].slope
    away = np.arctan2(-ly, -lx)
    if rng.random() < 0.4:
        steps = int(rng.integers(26, 44))
        path = _wander(
            rng,
            _spot(scene, rng, 0.3, 0.85),
            rng.uniform(0, 6.3),
            steps,
            2.3 * px,
            rng.uniform(-0.11, 0.11),
            0.13,
        )
        opacity = _stroke(scene, path, np.full(steps + 1, rng.uniform(1.6, 2.2) * px))
        dyes = ((0.42, 0.16, 0.06), (0.07, 0.06, 0.42), (0.75, 0.78, 0.78), (0.02, 0.02, 0.025))
        colour += np.asarray(dyes[int(rng.integers(len(dyes)))], np.float32)
        lift = 2.0
    else:
        home = _spot(scene, rng, 0.4, 0.8, clear=0.24)
        for _ in range(int(rng.integers(2, 5))):
            steps = int(rng.integers(7, 18))
            spot = (home[0] + rng.normal(0, 9) * px, home[1] + rng.normal(0, 9) * px)
            curl = rng.choice((-1.0, 1.0)) * rng.uniform(0.14, 0.42)
            path = _wander(rng, spot, rng.uniform(0, 6.3), steps, 2.2 * px, curl, 0.05)
            widths = rng.uniform(3.0, 5.0) * px * np.sin(np.linspace(0.4, 2.9, steps + 1)) ** 0.5
            ribbon = _stroke(scene, path, widths)
            opacity = np.maximum(opacity, ribbon)
            relief = np.maximum(relief, _blur(ribbon, 1.0 * px))
        facing = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=1 / 8) * np.float32(-lx / 0.3)
        facing += cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=1 / 8) * np.float32(-ly / 0.3)
        shine = np.clip(0.34 + 3.2 * px * facing, 0.03, 1.3)
        warm = rng.choice((1.0, 0.72))
        colour += shine[..., None] * np.asarray((0.85 * warm, 0.92 * warm**0.4, 1.0), np.float32)
        lift = 3.2
    on_part = (surface.radius < 0.985).astype(np.float32)
    opacity *= on_part
    move = np.eye(2, 3, dtype=np.float32)
    move[:, 2] = lift * px * np.cos(away), lift * px * np.sin(away)
    cast = np.asarray(cv2.warpAffine(opacity, move, shape), np.float32)
    shadow = np.float32(0.6) * _blur(cast, 1.1 * px) * surface.cover
    # No camera sees a dark fibre across a dark bore.
    visible = (surface.cover > 0.5) | (colour.max(axis=2) > 0.1)
    footprint = (((opacity > 0.3) & visible) | (shadow > 0.25)).astype(np.float32)
    return Mark(footprint, shadow=shadow, debris=(colour, opacity))


def _crack(scene: Scene, surface: Surface, rng: np.random.Generator) -> Mark:
    """A fatigue crack from a bolt hole, the bore or the rim, forking as it runs."""
    px = scene.pixel
    origin = int(rng.integers(3))
    if origin == 0:
        hx, hy = scene.hole_centre(int(rng.integers(BOLT_HOLES)))
        out = rng.uniform(0, 2 * np.pi)
        x, y = hx + COUNTERSINK * np.cos(out), hy + COUNTERSINK * np.sin(out)
        heading = out
        reach = BOLT_CIRCLE - HOLE
    else:
        turn = rng.uniform(0, 2 * np.pi)
        edge = BORE + 0.03 if origin == 1 else 0.985
        x, y = edge * np.cos(turn), edge * np.sin(turn)
        heading = turn + (0.0 if origin == 1 else np.pi) + rng.uniform(-0.4, 0.4)
        reach = 0.6
    start = (scene.centre[0] + scene.unit * x, scene.centre[1] + scene.unit * y)
    steps = int(rng.uniform(0.85, 1.3) * reach * 32)
    trunk = _wander(rng, start, heading, steps, 3.0 * px, 0.0, 0.28)
    widths = np.linspace(rng.uniform(2.2, 2.8), 0.9, steps + 1) * px
    dark = _stroke(scene, trunk, widths)
    for _ in range(int(rng.integers(1, 4))):
        fork = int(rng.integers(steps // 4, steps - 3))
        aside = heading + rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0)
        length = int(rng.integers(5, 11))
        branch = _wander(rng, tuple(trunk[fork]), aside, length, 2.6 * px, 0.0, 0.3)
        thin = np.linspace(0.75 * widths[fork], 0.6 * px, length + 1)
        dark = np.maximum(dark, _stroke(scene, branch, thin))
    dark *= surface.cover
    footprint = (_blur(dark, 0.8 * px) > 0.12).astype(np.float32)
    lip = _blur(dark, 1.0 * px) - 0.6 * dark
    return Mark(footprint, height=np.float32(0.8 * px) * lip, gain=1 - 0.9 * dark)
