"""`plant.toml`: the products of a plant and what each has to reach."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from dad_edge.config import Precision, SizeName
from dad_edge.documents import read_toml
from dad_edge.errors import ModelError, UsageError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """`[products.NAME.bar]`: what a product has to reach on its test images, in percent."""

    image_auroc: float | None = None
    """At least."""
    found: float | None = None
    """Defective parts above the threshold, at least."""
    rejected: float | None = None
    """Good parts above the threshold, at most."""

    def __post_init__(self) -> None:
        for name in ("image_auroc", "found", "rejected"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 100:
                raise UsageError(
                    f"{name} must lie in [0, 100], got {value}.", "write per cent, such as 99.5"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """`[products.NAME]`."""

    data: str
    """Folder of its images, as `dad-edge train` takes it."""
    size: SizeName = "nano"
    minutes: float = 30.0
    """Of training."""
    seed: int = 0
    tiles: str = ""
    """As `--tiles`; chosen from the images if empty."""
    keep_aspect: bool = False
    false_reject_rate: float = 0.01
    """Share of good parts that may be rejected."""
    precisions: tuple[Precision, ...] = ()
    """Engines to build, each judged on the images."""
    bar: Bar = field(default_factory=Bar)

    def __post_init__(self) -> None:
        if not self.data.strip():
            raise UsageError("data is empty.", "name the folder of the product's images")
        if not 0 < self.minutes < float("inf"):
            raise UsageError(f"minutes must be positive, got {self.minutes}.", "write 30")
        if not 0 < self.false_reject_rate < 1:
            raise UsageError(
                f"false_reject_rate must lie between 0 and 1, got {self.false_reject_rate}.",
                "write a share such as 0.01, not 1 for per cent",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plant:
    """The whole file."""

    products: dict[str, Product]
    """Name → product, in the order of the file."""

    def __post_init__(self) -> None:
        if not self.products:
            raise UsageError("there is no product.", "write a table [products.NAME] with its data")
        for name in self.products:
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"'{name}' is no name for a product, as a folder gets it.",
                    "use letters, digits, '_', '-' and '.'",
                )


def read_plant(path: Path) -> Plant:
    """Read `plant.toml`; paths in it are relative to its folder.

    Raises:
        UsageError: the file cannot be read, or a key is unknown, missing or out of range.
    """
    try:
        plant = read_toml(Plant, path)
    except ModelError as error:
        raise UsageError(error.message, error.next_step) from error
    products = {
        name: replace(product, data=str(path.parent / os.path.expanduser(product.data)))
        for name, product in plant.products.items()
    }
    return Plant(products=products)
