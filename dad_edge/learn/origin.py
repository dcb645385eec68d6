"""Which images a run learns from, so that a resumed run goes on with the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dad_edge.data.digest import digest_items
from dad_edge.data.folder import images_in
from dad_edge.data.layouts import list_items
from dad_edge.errors import UsageError
from dad_edge.files import sha256_of


@dataclass(frozen=True, slots=True)
class Origin:
    """The files that a run learns from, whatever folders they lie in."""

    images: str
    """Number of normal images."""
    data_sha256: str
    """Digest of the normal images, as `digest_items` makes it."""
    textures_sha256: str
    """Digest of the texture images; empty where textures are drawn."""

    def to_metadata(self) -> dict[str, str]:
        """The values that are kept with the state of a run."""
        return asdict(self)

    def refuse_other(self, metadata: Mapping[str, str], folder: Path) -> None:
        """Refuse to resume a run that learned from other images.

        Args:
            metadata: of the run's state; a state of an earlier version says nothing of the images.
            folder: of the run, for the error's sentence.

        Raises:
            UsageError: the images or textures are not the same.
        """
        different = {
            name: value
            for name, value in self.to_metadata().items()
            if metadata.get(name, value) != value
        }
        if not different:
            return
        if "images" in different:
            change = f"from {metadata['images']} images, and --data holds {self.images} now"
        elif "data_sha256" in different:
            change = "from other images than those that --data holds now"
        else:
            change = "with other --textures"
        raise UsageError(
            f"the run in {folder} learned {change}.",
            "give it the images and textures it had, or start another run with another --out",
        )


def origin_of(data: Path, textures: Path | None) -> Origin:
    """The files of a data set's train split and of a folder of textures.

    Args:
        data: folder or table of the data set.
        textures: folder of texture images, if there is one.

    Raises:
        DataError: no layout fits.
    """
    items = list_items(data, "train")
    return Origin(str(len(items)), digest_items(items), _digest_of(textures) if textures else "")


def _digest_of(textures: Path) -> str:
    folders = [textures, *sorted(path for path in textures.glob("*") if path.is_dir())]
    digests = [sha256_of(path) for folder in folders for path in images_in(folder)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
