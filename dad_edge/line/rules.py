"""From the verdicts on frames to what becomes of a part: k of n, and hysteresis."""

from __future__ import annotations

from collections import deque
from typing import Literal

from dad_edge.runtime.seams import Verdict

Seen = Literal["part", "no part", "uninspected"]
"""What a frame showed: a part with a score, nothing to judge, or what no engine could inspect."""


class RejectRule:
    """Whether the part in view is to be rejected, told frame by frame."""

    def __init__(
        self, k_of_n: tuple[int, int], hysteresis: float, reject_uninspected: bool
    ) -> None:
        """
        Args:
            k_of_n: a part is rejected while at least k of the latest n frames count as defects.
            hysteresis: while it is, frames count down to this far below the threshold.
            reject_uninspected: whether a frame that no engine could inspect counts as a defect.
        """
        self._k, n = k_of_n
        self._hysteresis = hysteresis
        self._reject_uninspected = reject_uninspected
        self._votes: deque[bool] = deque(maxlen=n)
        self._rejected = False

    def next(self, seen: Seen, verdict: Verdict, score: float, threshold: float) -> bool:
        """Take a frame and say whether the part is to be rejected.

        A frame without a part ends the part: the next one starts with no votes against it.

        Args:
            seen: what the frame showed.
            verdict: on the frame.
            score: of the frame; looked at only where it shows a part.
            threshold: that held for the frame.
        """
        if seen == "no part":
            self._votes.clear()
            self._rejected = False
            return False
        if seen == "uninspected":
            vote = self._reject_uninspected
        else:
            near = self._rejected and score > threshold - self._hysteresis
            vote = verdict == "defect" or near
        self._votes.append(vote)
        self._rejected = sum(self._votes) >= self._k
        return self._rejected
