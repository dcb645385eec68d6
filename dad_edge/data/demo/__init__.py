"""The demo product: drawn turned-steel flanges on a conveyor, good and defective.

Nothing here is a photograph. The parts are shaded from their geometry, and the defects are cut
into that geometry, by code that shares nothing with the anomaly synthesis used in training.
"""

from dad_edge.data.demo.dataset import line, part_seed, write_dataset
from dad_edge.data.demo.defects import KINDS
from dad_edge.data.demo.draw import DrawnPart, draw

PRODUCT = "demo flange"
"""Class name of a bundle that is trained on it."""

__all__ = ["KINDS", "PRODUCT", "DrawnPart", "draw", "line", "part_seed", "write_dataset"]
