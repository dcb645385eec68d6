"""From a seed to a picture: shade the surface, lay it on the belt, take the photograph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from dad_edge.data.demo.defects import KINDS, Mark, damage
from dad_edge.data.demo.part import Field, Scene, Surface, belt_tile, compose, machine, streaks

_SCENE, _CAMERA, _DEFECT = 0, 1, 2
_ATTEMPTS = 8
_MIN_AREA = 150
_MIN_CONTRAST = 11.0


@dataclass(frozen=True)
class DrawnPart:
    """A picture of one part and the truth about it."""

    image: npt.NDArray[np.uint8]
    """(H,W,3) uint8, BGR."""
    mask: npt.NDArray[np.uint8]
    """(H,W) uint8, 255 where the part is defective, else 0."""
    kind: str
    """``"good"`` or one of ``KINDS``."""


def draw(seed: int, kind: str = "good", size: int = 256) -> DrawnPart:
    """Draw one part; the same arguments give the same bytes, in any order of calls.

    The scene and the camera's noise depend on the seed alone, so a defective picture equals the
    good one of the same seed except at the defect. A defect that came out too small or too faint
    to see is drawn again.

    Args:
        seed: 0 or more.
        kind: ``"good"`` or one of ``KINDS``.
        size: side of the picture in pixels.

    Raises:
        ValueError: the seed is negative or the kind is unknown.
    """
    if seed < 0 or kind not in ("good", *KINDS):
        raise ValueError(
            f"no part with seed {seed} and kind {kind!r}; kinds: good, {', '.join(KINDS)}"
        )
    scene = compose(np.random.default_rng((seed, _SCENE)), size)
    surface = machine(scene)
    streak = streaks(scene, surface)
    clean = _expose(scene, _shade(scene, surface, streak, None))
    if kind == "good":
        return DrawnPart(_develop(clean, seed), np.zeros((size, size), np.uint8), kind)

    number = KINDS.index(kind)
    best: tuple[float, Field, npt.NDArray[np.uint8]] | None = None
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng((seed, _DEFECT, number, attempt))
        mark = damage(kind, scene, surface, rng)
        worked = surface if mark.skip_hole is None else machine(scene, mark.skip_hole)
        exposed = _expose(scene, _shade(scene, worked, streak, mark))
        mask = np.where(mark.footprint > 0.5, 255, 0).astype(np.uint8)
        visibility = _visibility(clean, exposed, mask, size)
        if best is None or visibility > best[0]:
            best = (visibility, exposed, mask)
        if visibility >= 1:
            break
    assert best is not None
    return DrawnPart(_develop(best[1], seed), best[2], kind)


def _visibility(clean: Field, exposed: Field, mask: npt.NDArray[np.uint8], size: int) -> float:
    """Area or contrast of a defect as a share of the least that is wanted; 1 is enough."""
    inside = mask > 0
    area = int(inside.sum()) * (256 / size) ** 2
    if area == 0:
        return 0.0
    tone = _tone_curve().astype(np.float32)
    before, after = (tone[_digitise(picture[inside])] for picture in (clean, exposed))
    contrast = float(np.abs(before - after).max(axis=-1).mean())
    return min(area / _MIN_AREA, contrast / _MIN_CONTRAST)


def _shade(scene: Scene, surface: Surface, streak: Field, mark: Mark | None) -> Field:
    """Light the part and lay it on the belt: (H,W,3) float32, linear light, BGR.

    Anisotropic Gaussian highlights (Ward's model in slope space): turned metal scatters widely
    across the tool marks and little along them, hence the two bright fans.
    """
    slope_x, slope_y, albedo = surface.slope_x, surface.slope_y, surface.albedo
    rough = surface.rough
    if mark is not None and mark.height is not None:
        slope_x = slope_x - cv2.Sobel(mark.height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
        slope_y = slope_y - cv2.Sobel(mark.height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    if mark is not None and mark.gain is not None:
        albedo = albedo * mark.gain
    if mark is not None and mark.rough is not None:
        rough = np.maximum(rough, mark.rough)
    across = np.float32(0.30**-2)
    along = across + (1 - rough) * np.float32(scene.finish**-2 - 0.30**-2)

    rx, ry = surface.x / surface.radius, surface.y / surface.radius
    wobble = np.float32(0.030 * scene.marks) * streak
    glow = np.full_like(rx, scene.ambient)
    glow -= np.float32(0.09) * slope_y
    for light in scene.lights:
        dx = np.float32(light.slope[0]) - slope_x - np.float32(0.10) * surface.x
        dy = np.float32(light.slope[1]) - slope_y - np.float32(0.10) * surface.y
        tangential = dy * rx - dx * ry + wobble
        radial = dx * rx + dy * ry
        lobe = cv2.exp(-(tangential * tangential * along + radial * radial * across))
        broad = cv2.exp(-(dx * dx + dy * dy) * np.float32(0.62**-2))
        glow += np.float32(light.power) * (np.float32(0.80) * lobe + np.float32(0.10) * broad)
    metal = glow * albedo * (1 + np.float32(0.045 * scene.marks) * streak) * surface.cover

    row, column = (origin * scene.size // 256 for origin in scene.belt_origin)
    belt = belt_tile(scene.size)[row : row + scene.size, column : column + scene.size]
    belt = belt * surface.floor * np.float32(scene.belt_level) * (1 - surface.cover)

    picture = np.empty((*metal.shape, 3), np.float32)
    tint = None if mark is None else mark.tint
    for channel, (steel, rubber) in enumerate(zip(scene.steel, (1.06, 1.0, 0.95), strict=True)):
        stained = metal if tint is None else metal * tint[..., channel]
        picture[..., channel] = np.float32(steel) * stained + np.float32(rubber) * belt
    if mark is not None and mark.shadow is not None:
        picture *= (1 - mark.shadow)[..., None]
    if mark is not None and mark.debris is not None:
        colour, opacity = mark.debris
        picture += opacity[..., None] * (colour - picture)
    return picture


@lru_cache(maxsize=4)
def _corner_distance(size: int) -> Field:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size) - np.float32(0.5)
    return np.asarray(2 * (x * x + y * y), np.float32)


def _expose(scene: Scene, picture: Field) -> Field:
    """Pass linear light through the lens, with defocus, vignette and exposure."""
    soft = cv2.GaussianBlur(picture, (0, 0), scene.defocus * scene.pixel)
    falloff = np.float32(scene.exposure) * (
        1 - np.float32(scene.vignette) * _corner_distance(scene.size)
    )
    return np.asarray(soft * falloff[..., None], np.float32)


def _digitise(light: Field) -> npt.NDArray[np.int32]:
    """Count linear light on a 12-bit sensor."""
    return np.asarray(np.clip(light * 4095 / 1.25, 0, 4095), np.int32)


@lru_cache(maxsize=1)
def _tone_curve() -> npt.NDArray[np.uint8]:
    """A film-like shoulder and a display gamma, from 12 bits to 8."""
    light = np.arange(4096) * (1.25 / 4095)
    shoulder = 1 - np.exp(-1.35 * light)
    encoded = (shoulder / shoulder[-1]) ** (1 / 2.1)
    return np.asarray(np.rint(255 * encoded), np.uint8)


def _develop(light: Field, seed: int) -> npt.NDArray[np.uint8]:
    """Add shot and read noise and write 8-bit values."""
    rng = np.random.default_rng((seed, _CAMERA))
    gain = rng.uniform(1.2e-4, 2.6e-4)
    grain = rng.standard_normal(light.shape, dtype=np.float32)
    soft = np.asarray(cv2.GaussianBlur(grain, (3, 3), 0.45), np.float32)
    spread = np.sqrt(np.maximum(light, 0) * np.float32(gain) + np.float32(6e-7))
    return _tone_curve()[_digitise(light + spread * soft)]
