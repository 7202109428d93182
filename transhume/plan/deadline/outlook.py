"""What the rest of a job is expected to cost, by time and slack that are left: a stochastic dynamic program.

The world is reduced to whether any spot machine is to be had, which changes at two constant rates; the job is
idle, on spot or on demand. Time is cut into steps, and from the deadline backwards each state takes the
cheapest of what the safety net allows. As slack never grows, the table over (time left, slack) is small: one
is solved in some hundredths of a second, and serves for a job's whole life while the rates stay the same.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STEPS = 200
SLACK_NODES = 81
MOST_TABLES = 64
"""Kept for later, each of 0.8 MB: where prices move, hardly any is asked for again."""
IDLE_ROW, SPOT_ROW, ON_DEMAND_ROW = range(3)
_Row = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a table is solved for. Hashable: equal expectations share a table."""

    work_seconds: float
    deadline_seconds: float
    changeover_seconds: float
    spot_dollars_per_hour: float
    on_demand_dollars_per_hour: float
    losses_per_second: float
    """How often the last spot machine is lost."""
    returns_per_second: float
    """How often there is one again."""
    moves_per_second: float
    """How often a job on spot has to go to another spot machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the rest is expected to cost, in dollars, by where the job runs next."""

    idle: float
    spot: float
    on_demand: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The expected cost by time left, by whether spot is there, by where the job runs, and by slack."""

    expectation: Expectation
    step_seconds: float
    slack_step_seconds: float
    dollars: NDArray[np.float64]
    """Indexed by (step, there, row, slack node)."""

    def choices(
        self, time_left_seconds: float, slack_seconds: float, *, there: bool, on_demand_now: bool
    ) -> Choices:
        """Return the expected cost of being idle, or going to spot, or being on demand, for a step.

        Being on spot counts as coming from elsewhere: whoever is there already has no choice to make.
        """
        given, step = self.expectation, self.step_seconds
        work = max(0.0, time_left_seconds - slack_seconds)
        moved = given.changeover_seconds
        on_demand_lost = 0.0 if on_demand_now else moved
        spot_lost = moved + _drift(given, step)
        later = time_left_seconds - step

        def rest(row: int, lost_seconds: float) -> float:
            if row != IDLE_ROW and work + lost_seconds <= step:
                return 0.0
            after = IDLE_ROW if row == SPOT_ROW else row
            stays, changes = _chances(given, step, there=there)
            slack = slack_seconds - lost_seconds
            same = self._at(later, there, SPOT_ROW if there and row == SPOT_ROW else after, slack)
            other = self._at(later, not there, after, slack)
            return stays * same + changes * other

        paid_hours = min(step, work + on_demand_lost) / 3600
        spot_hours = min(step, work + spot_lost) / 3600
        return Choices(
            idle=rest(IDLE_ROW, step),
            spot=spot_hours * given.spot_dollars_per_hour + rest(SPOT_ROW, spot_lost),
            on_demand=paid_hours * given.on_demand_dollars_per_hour
            + rest(ON_DEMAND_ROW, on_demand_lost),
        )

    def dollars_per_slack_second(self, time_left_seconds: float, slack_seconds: float) -> float:
        """Return what a second of slack is worth to a job on spot."""
        less = max(0.0, slack_seconds - self.slack_step_seconds)
        if less >= slack_seconds:
            return self.expectation.on_demand_dollars_per_hour / 3600
        gain = self._at(time_left_seconds, True, SPOT_ROW, less) - self._at(
            time_left_seconds, True, SPOT_ROW, slack_seconds
        )
        return max(0.0, gain) / (slack_seconds - less)

    def _at(self, time_left: float, there: bool, row: int, slack: float) -> float:
        """Interpolate between the nodes round a state."""
        steps = min(max(time_left / self.step_seconds, 0.0), len(self.dollars) - 1.0)
        nodes = min(max(slack / self.slack_step_seconds, 0.0), SLACK_NODES - 1.0)
        step, node = min(int(steps), len(self.dollars) - 2), min(int(nodes), SLACK_NODES - 2)
        table, now, x, y = self.dollars, int(there), steps - step, nodes - node
        low = table[step, now, row, node] * (1 - y) + table[step, now, row, node + 1] * y
        high = table[step + 1, now, row, node] * (1 - y) + table[step + 1, now, row, node + 1] * y
        return float(low * (1 - x) + high * x)


@lru_cache(maxsize=MOST_TABLES)
def solve(given: Expectation) -> Outlook:
    """Return the table for what is expected."""
    rules = _Rules(given)
    dollars = np.zeros((STEPS + 1, 2, 3, SLACK_NODES))
    for number in range(1, STEPS + 1):
        dollars[number] = rules.best(number, dollars[number - 1])
    return Outlook(
        expectation=given,
        step_seconds=rules.step,
        slack_step_seconds=float(rules.slack[1]),
        dollars=dollars,
    )


class _Rules:
    """What a step of the table is made by: all that is the same in each is reckoned once."""

    def __init__(self, given: Expectation) -> None:
        self.given = given
        self.step = given.deadline_seconds / STEPS
        most_slack = max(given.deadline_seconds - given.work_seconds, 1.0)
        self.slack = np.linspace(0.0, most_slack, SLACK_NODES)
        chances = [_chances(given, self.step, there=there) for there in (False, True)]
        self.stays, self.changes = np.array(chances).T.reshape(2, 2, 1, 1)
        self.moved, self.drift = given.changeover_seconds, _drift(given, self.step)
        self.shifts = {
            lost: _Shift(self.slack, lost)
            for lost in (self.step, self.moved, self.drift, self.moved + self.drift)
        }

    def best(self, number: int, later: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the cheapest expected cost so many steps before the deadline.

        Indexed by whether spot is there, where the job runs now, and slack.
        """
        given, work = self.given, np.maximum(number * self.step - self.slack, 0.0)
        expected = self.stays * later + self.changes * later[::-1]
        dear = given.on_demand_dollars_per_hour
        idle = np.where(
            self.slack - self.step >= self.moved,
            self.shifts[self.step].of(expected[:, IDLE_ROW]),
            np.inf,
        )
        start = self._run(work, expected[:, ON_DEMAND_ROW], self.moved, dear)
        stay = self._run(work, expected[:, ON_DEMAND_ROW], 0.0, dear)
        best = np.empty_like(later)
        best[:, IDLE_ROW] = best[:, SPOT_ROW] = np.minimum(idle, start)
        best[:, ON_DEMAND_ROW] = np.minimum(idle, stay)
        self._with_spot(work, later, best[1])
        best[:, :, work <= 0] = 0.0
        return best

    def _with_spot(self, work: _Row, later: NDArray[np.float64], best: NDArray[np.float64]) -> None:
        """Where spot is there: lower what going there makes cheaper."""
        stays, changes = float(self.stays[1, 0, 0]), float(self.changes[1, 0, 0])
        rest = stays * later[1, SPOT_ROW] + changes * later[0, IDLE_ROW]
        cheap = self.given.spot_dollars_per_hour
        enter = self._allowed(work, rest, self.moved + self.drift, cheap)
        on = self._allowed(work, rest, self.drift, cheap)
        for row, cost in ((IDLE_ROW, enter), (SPOT_ROW, on), (ON_DEMAND_ROW, enter)):
            np.minimum(best[row], cost, out=best[row])

    def _allowed(self, work: _Row, rest: _Row, lost: float, dollars_per_hour: float) -> _Row:
        safe = (self.slack - lost >= self.moved) | (work + lost <= self.step)
        return np.where(safe, self._run(work, rest, lost, dollars_per_hour), np.inf)

    def _run(
        self, work: _Row, rest: NDArray[np.float64], lost: float, dollars_per_hour: float
    ) -> NDArray[np.float64]:
        """Return what a step of running costs, and what is to be expected after it."""
        needed = work + lost
        after = np.where(needed <= self.step, 0.0, self.shifts[lost].of(rest) if lost else rest)
        paid: NDArray[np.float64] = (
            np.minimum(self.step, needed) * (dollars_per_hour / 3600) + after
        )
        return paid


class _Shift:
    """Reads rows of slack at slacks that are smaller by so much, between the nodes."""

    def __init__(self, slack: _Row, lost: float) -> None:
        places = np.clip((slack - lost) / slack[1], 0.0, len(slack) - 1.0)
        self.low = np.minimum(places.astype(np.int64), len(slack) - 2)
        self.share = places - self.low

    def of(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the rows at the smaller slacks."""
        low = rows.take(self.low, axis=-1)
        found: NDArray[np.float64] = low + (rows.take(self.low + 1, axis=-1) - low) * self.share
        return found


def _chances(given: Expectation, step: float, *, there: bool) -> tuple[float, float]:
    """Return the chances that spot is as it is now after a step, and that it is otherwise."""
    total = given.losses_per_second + given.returns_per_second
    leaving = given.losses_per_second if there else given.returns_per_second
    changes = leaving / total * -math.expm1(-total * step)
    return 1.0 - changes, changes


def _drift(given: Expectation, step: float) -> float:
    """Return the seconds of a step on spot that are expected to go into moves to other spot machines."""
    return min(0.9, given.moves_per_second * given.changeover_seconds) * step
