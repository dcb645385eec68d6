"""One flange on the belt: its random pose, light and finish, and its surface as pixel fields.

Lengths are in part radii, the origin is the part's centre, x points right and y down. A surface
is a map of slopes (the xy part of the normal divided by its z part), because in slope space every
bevel, dent and scratch is an addition and a highlight is a distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]

BORE = 0.21
KEYWAY_WIDTH = 0.105
KEYWAY_END = 0.295
HUB = 0.45
BOLT_CIRCLE = 0.715
BOLT_HOLES = 6
HOLE = 0.093
COUNTERSINK = 0.128
THICKNESS = 0.16

_TABLE = 2048
_TABLE_REACH = 1.8
_STREAKS = (512, 1024)


@dataclass(frozen=True)
class Light:
    """A soft lamp above the belt."""

    slope: tuple[float, float]
    """Slope of the facets that mirror it into the camera at the image centre, x and y."""
    power: float
    """Radiance against the key light of an average scene."""


@dataclass(frozen=True)
class Scene:
    """Everything drawn by chance about one good part, before the camera's noise."""

    size: int
    unit: float
    """Part radius in pixels."""
    centre: tuple[float, float]
    angle: float
    """Rotation of the part in radians."""
    lights: tuple[Light, ...]
    ambient: float
    finish: float
    """Spread of the facets along the tool marks, in slope; larger is duller."""
    feed: tuple[float, float]
    """Pitch of the tool marks on flange and hub, in pixels of a 256-pixel image."""
    marks: float
    """Strength of the tool marks."""
    steel: tuple[float, float, float]
    """Reflectance of the metal, BGR."""
    belt_level: float
    belt_origin: tuple[int, int]
    streak_origin: tuple[float, float]
    exposure: float
    vignette: float
    defocus: float
    """Standard deviation of the lens blur in pixels of a 256-pixel image."""

    @property
    def pixel(self) -> float:
        """Pixels for one pixel of a 256-pixel image."""
        return self.size / 256

    def hole_centre(self, index: int) -> tuple[float, float]:
        """Centre of a bolt hole, in part radii."""
        turn = self.angle + (index + 0.5) * 2 * np.pi / BOLT_HOLES
        return BOLT_CIRCLE * float(np.cos(turn)), BOLT_CIRCLE * float(np.sin(turn))


def compose(rng: np.random.Generator, size: int) -> Scene:
    """Draw one scene: pose, light, finish, belt and camera settings."""
    azimuth = rng.uniform(-2.5, -0.7)
    fill = azimuth + rng.choice((-1.0, 1.0)) * rng.uniform(1.7, 2.4)
    tilt, fill_tilt = rng.uniform(0.26, 0.36), rng.uniform(0.25, 0.4)
    key = Light((tilt * np.cos(azimuth), tilt * np.sin(azimuth)), rng.uniform(0.9, 1.1))
    low = Light((fill_tilt * np.cos(fill), fill_tilt * np.sin(fill)), rng.uniform(0.3, 0.5))
    warmth = rng.uniform(-0.03, 0.04)
    return Scene(
        size=size,
        unit=size * rng.uniform(0.395, 0.42),
        centre=(
            size * (0.5 + rng.uniform(-0.03, 0.03)) - 0.5,
            size * (0.5 + rng.uniform(-0.03, 0.03)) - 0.5,
        ),
        angle=rng.uniform(0, 2 * np.pi),
        lights=(key, low),
        ambient=rng.uniform(0.10, 0.13),
        finish=rng.uniform(0.10, 0.13),
        feed=(rng.uniform(2.9, 3.7), rng.uniform(2.2, 2.7)),
        marks=rng.uniform(0.6, 1.0),
        steel=(0.96 - warmth, 0.97, 0.97 + warmth),
        belt_level=rng.uniform(0.020, 0.030),
        belt_origin=(int(rng.integers(0, 256)), int(rng.integers(0, 256))),
        streak_origin=(rng.uniform(0, _STREAKS[1]), rng.uniform(0, _STREAKS[0])),
        exposure=rng.uniform(0.92, 1.1),
        vignette=rng.uniform(0.12, 0.28),
        defocus=rng.uniform(0.5, 0.75),
    )


@dataclass
class Surface:
    """A part's geometry sampled at every pixel; each field is (H,W) float32."""

    x: Field
    y: Field
    radius: Field
    cover: Field
    """1 where the camera sees metal, 0 where it sees the belt."""
    slope_x: Field
    slope_y: Field
    albedo: Field
    rough: Field
    """0 where tool marks run around the centre, 1 where facets scatter alike every way."""
    floor: Field
    """Light that reaches the belt, between 0 and 1."""


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[Field, Field]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    return x, y


@lru_cache(maxsize=1)
def _streak_tile() -> Field:
    """Unit-variance noise drawn out along the rows, which become arcs on the part."""
    noise = np.random.default_rng(11).standard_normal(_STREAKS).astype(np.float32)
    padded = cv2.copyMakeBorder(noise, 8, 8, 128, 128, cv2.BORDER_WRAP)
    fine = cv2.GaussianBlur(padded, (0, 0), sigmaX=14, sigmaY=0.7)[8:-8, 128:-128]
    long = cv2.GaussianBlur(padded, (0, 0), sigmaX=40, sigmaY=1.2)[8:-8, 128:-128]
    tile = fine / fine.std() + 0.8 * long / long.std()
    return np.asarray(tile / tile.std(), np.float32)


def _ramp(distance: Field | npt.NDArray[np.float64], width: float) -> Field:
    """Go from 0 to 1 as a signed distance crosses zero, over ``width``."""
    return np.clip(distance / width + 0.5, 0, 1).astype(np.float32)


def _profile(scene: Scene) -> tuple[Field, Field]:
    """Slope and albedo of the turned faces against the radius, as tables over the radius."""
    r = np.linspace(0, _TABLE_REACH, _TABLE, dtype=np.float64)

    def band(start: float, end: float) -> npt.NDArray[np.float64]:
        return ((r >= start) & (r < end)).astype(np.float64)

    slope = -0.55 * band(BORE, BORE + 0.035)
    slope += 0.5 * band(HUB - 0.03, HUB) + 0.45 * band(0.955, 1.2)
    slope += -0.4 * band(0.868, 0.882) + 0.4 * band(0.897, 0.911)
    albedo = np.ones_like(r)
    albedo -= 0.78 * band(HUB, HUB + 0.022)
    albedo -= 0.35 * np.exp(-(((r - HUB - 0.022) / 0.035) ** 2)) * (r >= HUB + 0.022)
    albedo -= 0.45 * band(0.882, 0.897)
    albedo -= 0.10 * band(BORE + 0.035, HUB - 0.03)

    pixels = r * scene.unit / scene.pixel
    pitch = np.where(r < HUB, scene.feed[1], scene.feed[0])
    face = 1 - band(HUB, HUB + 0.022)
    slope += 0.035 * scene.marks * face * np.sin(2 * np.pi * pixels / pitch)
    step = _TABLE / _TABLE_REACH / scene.unit
    tables = np.stack([slope, albedo]).astype(np.float32)
    soft = cv2.GaussianBlur(tables, (0, 0), sigmaX=max(0.45 * step, 0.5), sigmaY=1e-3)
    return np.asarray(soft[0], np.float32), np.asarray(soft[1], np.float32)


def _drill(surface: Surface, scene: Scene, index: int) -> None:
    """Cut a countersunk bolt hole into the surface, in its own neighbourhood only."""
    hx, hy = scene.hole_centre(index)
    reach = (COUNTERSINK + 0.03) * scene.unit
    column, row = scene.centre[0] + hx * scene.unit, scene.centre[1] + hy * scene.unit
    at = np.s_[
        max(int(row - reach), 0) : int(row + reach) + 2,
        max(int(column - reach), 0) : int(column + reach) + 2,
    ]
    dx, dy = surface.x[at] - hx, surface.y[at] - hy
    distance = np.sqrt(dx * dx + dy * dy) + 1e-6
    edge = 1 / scene.unit
    bevel = _ramp(COUNTERSINK - distance, 1.8 * edge) * (0.5 / distance)
    keep = _ramp(distance - COUNTERSINK, 1.8 * edge)
    surface.rough[at] = np.maximum(surface.rough[at], 1 - keep)
    surface.slope_x[at] = surface.slope_x[at] * keep - bevel * dx
    surface.slope_y[at] = surface.slope_y[at] * keep - bevel * dy
    surface.cover[at] *= _ramp(distance - HOLE, edge)
    inside = distance < HOLE + edge
    lx, ly = _sun(scene)
    shade = _ramp(HOLE - np.hypot(dx + lx * THICKNESS, dy + ly * THICKNESS), 0.05)
    surface.floor[at] = np.where(inside, 0.06 + 0.5 * shade, surface.floor[at])


def _sun(scene: Scene) -> tuple[float, float]:
    """Horizontal direction towards the key light, of length about one."""
    sx, sy = scene.lights[0].slope
    length = float(np.hypot(sx, sy))
    return sx / length, sy / length


def machine(scene: Scene, skip_hole: int | None = None) -> Surface:
    """Make the surface of a part: turned profile, bore with keyway, bolt holes, shadows.

    Args:
        scene: the part.
        skip_hole: a bolt hole that was never drilled, or None.
    """
    columns, rows = _grid(scene.size)
    x = (columns - np.float32(scene.centre[0])) * np.float32(1 / scene.unit)
    y = (rows - np.float32(scene.centre[1])) * np.float32(1 / scene.unit)
    radius = np.sqrt(x * x + y * y) + np.float32(1e-6)
    edge = 1 / scene.unit

    slope_table, albedo_table = _profile(scene)
    place = np.minimum(radius * np.float32((_TABLE - 1) / _TABLE_REACH), _TABLE - 1)
    place = place.astype(np.int32)
    turned = slope_table[place] / radius

    lx, ly = _sun(scene)
    p = x * np.float32(np.cos(scene.angle)) + y * np.float32(np.sin(scene.angle))
    q = y * np.float32(np.cos(scene.angle)) - x * np.float32(np.sin(scene.angle))
    keyway = np.maximum(np.maximum(np.abs(q) - KEYWAY_WIDTH / 2, p - KEYWAY_END), -p)
    opening = np.minimum(radius - BORE, keyway)
    cast = np.sqrt((x + lx * 0.13) ** 2 + (y + ly * 0.13) ** 2)
    hub = np.sqrt((x + lx * 0.05) ** 2 + (y + ly * 0.05) ** 2)
    hub_shadow = _ramp(HUB - hub, 0.03) * _ramp(radius - HUB, edge)
    contact = 1 - 0.55 * np.exp((1 - radius) * 14, where=radius > 1, out=np.ones_like(radius))
    lit = (0.16 + 0.84 * _ramp(cast - 1.0, 0.2)) * contact
    lit_bore = 0.08 + 0.8 * _ramp(BORE - np.hypot(x + lx * THICKNESS, y + ly * THICKNESS), 0.07)
    surface = Surface(
        x=x,
        y=y,
        radius=radius,
        cover=_ramp(1 - radius, edge) * _ramp(opening, edge),
        slope_x=turned * x,
        slope_y=turned * y,
        albedo=albedo_table[place] * (1 - 0.38 * hub_shadow),
        rough=np.zeros_like(radius),
        floor=np.where(radius < 0.5, lit_bore, lit).astype(np.float32),
    )
    for index in range(BOLT_HOLES):
        if index != skip_hole:
            _drill(surface, scene, index)
    return surface


def streaks(scene: Scene, surface: Surface) -> Field:
    """Noise drawn out along the tool's path, unit variance, (H,W) float32."""
    turn = cv2.phase(surface.x, surface.y)
    across = turn * np.float32(_STREAKS[1] / (2 * np.pi)) + np.float32(scene.streak_origin[0])
    down = surface.radius * np.float32(1.2 * scene.unit / scene.pixel)
    down += np.float32(scene.streak_origin[1])
    tile = _streak_tile()
    sampled = cv2.remap(tile, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(sampled, np.float32)


@lru_cache(maxsize=4)
def belt_tile(size: int) -> Field:
    """A stretch of woven rubber belt, relative brightness around 1, (2 size, 2 size) float32."""
    rng = np.random.default_rng(7)
    side = 2 * size
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) * np.float32(256 / size)
    bend = cv2.resize(
        rng.standard_normal((24, 24)).astype(np.float32),
        (side, side),
        interpolation=cv2.INTER_CUBIC,
    )
    warp, weft = 2 * np.pi * (x + 0.35 * bend) / 5.0, 2 * np.pi * (y - 0.3 * bend) / 5.0
    over = np.sin(warp / 2 + weft / 2) * np.sin(warp / 2 - weft / 2)
    thread = 1 + 0.38 * over + 0.10 * np.sin(weft * 2)
    grain = cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), 0.8)
    wear = cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), 22)
    rub = cv2.GaussianBlur(
        rng.standard_normal((side, side)).astype(np.float32), (0, 0), sigmaX=1.2, sigmaY=30
    )
    tile = thread * (1 + 0.10 * wear / wear.std() + 0.09 * rub / rub.std())
    tile += 0.14 * grain / grain.std()
    return np.asarray(np.maximum(tile, 0.15), np.float32)
