# ruff: noqa: PLR0917 - compiled functions take no keyword arguments
"""The one kernel: find a group of frames, count them, and again, until something else has to be done.

One function with one signature, so that there is one thing to compile and one to load. It takes addresses and
numbers only, can't fail, and calls nothing of Python: so it runs while other threads do.
"""

from typing import Any

from transhume.monitor.capture.scan import counts, stops
from transhume.monitor.capture.scan.compiled import plan
from transhume.monitor.capture.scan.compiled.counting import add_group, read_group, rebuild

_PAIRS, _CELLS, _RUNS = counts.PAIRS, counts.CELLS, counts.RUNS
_JOB, _STOP, _REBUILD = plan.JOB, plan.STOP, plan.REBUILD
_MOST_PAIRS, _MOST_CELLS, _MOST_RUNS = plan.MOST_PAIRS, plan.MOST_CELLS, plan.MOST_RUNS
_FULL, _ROOM, _MORE = stops.FULL, stops.ROOM, stops.MORE


def scan(
    data: Any,
    end: int,
    at: int,
    told: Any,
    clocks: Any,
    group: Any,
    slots: Any,
    odd: Any,
    rows: Any,
    cells: Any,
    runs: Any,
    state: Any,
    out: Any,
) -> int:
    """Do the job that `told` says, from byte `at` of `end` on, and return where that ended."""
    if told[_JOB] == _REBUILD:
        rebuild(told, slots, odd, rows, state)
        told[_STOP] = _MORE
        return at
    while True:
        if (
            state[_PAIRS] > told[_MOST_PAIRS]
            or state[_CELLS] > told[_MOST_CELLS]
            or state[_RUNS] > told[_MOST_RUNS]
        ):
            told[_STOP] = _ROOM
            return at
        at, found, stop = read_group(
            data, end, at, told, clocks, group, slots, odd, rows, cells, runs, state, out
        )
        add_group(found, told, group, slots, odd, rows, cells, state)
        if stop != _FULL:
            told[_STOP] = stop
            return at
