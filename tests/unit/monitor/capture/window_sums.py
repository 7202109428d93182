"""What windows add up to, in one order: two readings of the same captures give equal sums."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

import numpy as np

from transhume.knowledge.model import TrafficWindow

Sums = dict[tuple[str, datetime], dict[bytes, tuple[int, int, int]]]
"""By capture point and bin, the rows of addresses with bytes, payload bytes and frames."""


def sums(windows: Iterable[TrafficWindow]) -> Sums:
    """Add up what windows say of the same capture point, bin and pair."""
    found: dict[tuple[str, datetime], dict[bytes, tuple[int, int, int]]] = defaultdict(dict)
    for window in windows:
        rows = found[window.capture_point, window.start]
        counts = np.column_stack([window.bytes, window.payload_bytes, window.frames]).tolist()
        pairs = (row.tobytes() for row in window.addresses[window.pair])
        for pair, (count, payload, frames) in zip(pairs, counts, strict=True):
            before = rows.get(pair, (0, 0, 0))
            rows[pair] = (before[0] + count, before[1] + payload, before[2] + frames)
    return {key: dict(sorted(found[key].items())) for key in sorted(found)}
