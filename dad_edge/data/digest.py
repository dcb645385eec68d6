"""One digest for the files of a data set, so that two reports can be known to be comparable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from dad_edge.data.folder import images_in
from dad_edge.data.listing import Item
from dad_edge.errors import printable
from dad_edge.files import sha256_of


def digest_items(items: Iterable[Item]) -> str:
    """SHA-256 over the images of a split and their masks, read in blocks.

    A line of the digested text is the item's name, the SHA-256 of its image and that of its mask,
    or ``-`` without one; lines are sorted. A folder of masks counts by its names and digests.
    Where the data set lies and the order of the items change nothing; a renamed, changed, added
    or missing file changes the digest.

    Args:
        items: images of a split.

    Returns:
        64 hexadecimal digits.
    """
    lines = sorted(
        f"{item.name}\t{sha256_of(item.path)}\t{_digest_mask(item.mask)}\n" for item in items
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest_mask(mask: Path | None) -> str:
    if mask is None:
        return "-"
    if not mask.is_dir():
        return sha256_of(mask)
    lines = (f"{printable(path.name)}\t{sha256_of(path)}\n" for path in images_in(mask))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
