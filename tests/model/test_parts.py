from __future__ import annotations

from pathlib import Path

import pytest

from dad_edge.errors import ModelError
from dad_edge.model.parts import PARTS, Parts, parts_in, write_parts


def test_parts_are_read_as_written(tmp_path: Path) -> None:
    assert parts_in(tmp_path) is None
    parts = Parts(trained_on={"good/a.png": "0" * 64}, kept_out={"good/b.png": "1" * 64})
    write_parts(tmp_path, parts)
    assert parts_in(tmp_path) == parts
    (tmp_path / PARTS).write_text('{"trained_on": {}}')
    with pytest.raises(ModelError, match="kept_out"):
        parts_in(tmp_path)
