"""Names of result files: `<study>[_<subject>]_<device>_<date>.json`."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path


def slug(text: str) -> str:
    """A name in lower case for a file name."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


def result_file(folder: Path, study: str, device: str, subject: str | None = None) -> Path:
    """The file of today's result.

    Args:
        folder: of the results.
        study: its name.
        device: name of the device, as `describe_machine` gives it.
        subject: data set or product, where a study has one.
    """
    parts = [study, *([slug(subject)] if subject else []), slug(device), date.today().isoformat()]
    return folder / f"{'_'.join(parts)}.json"
