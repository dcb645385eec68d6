"""The names that a user chooses by: studies, and devices that are not at hand.

They are apart from what they name, so that the command line can list them without loading it.
"""

from typing import Literal

StudyName = Literal["main", "table3", "table4", "precision", "scaling", "all"]
"""Rows that `bench` measures."""
DeviceName = Literal["orin-nano", "orin-nx", "agx-orin", "thor", "l4", "rtx-4090", "h100"]
"""A device whose speed `bench --predict` estimates."""
