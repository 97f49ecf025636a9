# SPDX-License-Identifier: Apache-2.0
"""What is made of the samples: medians, spread, ratios, and when a ratio is refused.

A figure is the median of its rounds. Its spread is (max - min) / median. A ratio of two medians
is given only when both were taken in at least MIN_ROUNDS rounds and neither spread is above the
limit; otherwise the word that says why stands in its place: on a machine that moves that much,
the ratio would be an accident. A figure that is missing gives no ratio at all.
"""

import statistics

MIN_ROUNDS = 3

REFUSED_SPREAD = "spread"
REFUSED_ROUNDS = "rounds"


class Figure:
    """The samples of one quantity of one path and workload, one for each round."""

    def __init__(self, samples):
        if not samples:
            raise ValueError("a figure needs at least one sample")
        self.samples = list(samples)

    @property
    def median(self):
        return statistics.median(self.samples)

    @property
    def lowest(self):
        return min(self.samples)

    @property
    def highest(self):
        return max(self.samples)

    @property
    def spread(self):
        """Infinite when the median is 0 and the samples differ."""
        if self.highest == self.lowest:
            return 0.0
        return (self.highest - self.lowest) / self.median if self.median else float("inf")


def ratio(own, reference, spread_limit):
    """The ratio of the medians as a float, or the word that says why there is none."""
    if min(len(own.samples), len(reference.samples)) < MIN_ROUNDS:
        return REFUSED_ROUNDS
    if max(own.spread, reference.spread) > spread_limit:
        return REFUSED_SPREAD
    if not reference.median:
        return REFUSED_SPREAD
    return own.median / reference.median
