"""Solves a large instance: the dual and two searches, in two threads that meet at points fixed beforehand.

The dual climbs a while by itself. From what it suggests then, the first search starts, while the dual goes on
beside it until it has its proof. Where time is kept for that, the proof is made stronger by cases, in both
threads. From what the weakest case suggests (or else the dual), the second search starts: in a case less is
mixed than in the whole. After that both look on, side by side, and now and then the one that's behind goes on
from what the other has found. When they meet depends on what was done and never on how long that took, so that
the same seed gives the same result however threads run.

Time is the caller's: `spent` tells which share of it is gone, 0 to 1. Only where that stops something are
results not the same each time.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from transhume.plan.scale.certificate import Certificate, Evidence, is_feasible
from transhume.plan.scale.dual import Ascent, Dual, Suggestion
from transhume.plan.scale.instance import Instance, Integers
from transhume.plan.scale.level import Level, level_of
from transhume.plan.scale.search import Search, improve
from transhume.plan.scale.splitting import split

HEAD_START = 0.4
"""Of the dual's rounds, those before the first search starts."""
DUAL_SHARE = 0.6
"""Of the time, what the dual may take."""
TURN = 4
"""Cycles that both searches do between two comparisons."""
MOST_ROUNDS, MOST_CYCLES = 300, 60
"""More is hardly ever any use."""
ROUND_SECONDS, PAIR_SECONDS, ENTRY_SECONDS = 1e-4, 0.22e-6, 0.42e-9
"""What a round of the dual takes: by itself, for a pair, and for a pair and two clouds."""
CYCLE_SECONDS, VM_SECONDS, PLACE_SECONDS = 0.02, 6e-5, 1.2e-6
"""What a cycle of the search takes: by itself, for a VM, and for a VM and a cloud."""
MEANWHILE = 4
"""Cycles that the first does while the second starts after a proof by cases."""
SPLITTING_SHARE = 0.25
"""Of the time, what a proof by cases may take."""
CASE_ROUNDS = 40
"""What a case takes, in rounds of the dual; the two of a split go side by side."""
FEWEST_SPLITS, MOST_SPLITS = 12, 30
"""Fewer are no use."""
RECKONED = 0.75
"""Of the time, what is reckoned with: instances of a size differ by a third in how long the same takes."""
FOLLOWING = 2.0
"""How many cycles' time it takes to check the proof, and to anneal what the dual suggests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much to do at most."""

    rounds: int = 300
    """Of the dual."""
    early_cycles: int = 3
    """Of the first search, while the dual goes on."""
    cycles: int = 20
    """Of each search after that."""
    splits: int = 0
    """How often the proof distinguishes two cases."""


def effort_within(instance: Instance, seconds: float) -> Effort:
    """Return about what two processors do in so many seconds: reckoned, so that results can be reproduced."""
    seconds *= RECKONED
    vms, pairs, clouds = instance.vm_count, len(instance.pairs), instance.cloud_count
    round_seconds = ROUND_SECONDS + pairs * (PAIR_SECONDS + ENTRY_SECONDS * clouds**2)
    cycle_seconds = CYCLE_SECONDS + vms * (VM_SECONDS + PLACE_SECONDS * clouds)
    rounds = max(1, min(MOST_ROUNDS, int(DUAL_SHARE * seconds / round_seconds)))
    beside = (1 - HEAD_START) * rounds * round_seconds
    splits = min(MOST_SPLITS, int(SPLITTING_SHARE * seconds / (CASE_ROUNDS * round_seconds)))
    splits = splits if splits >= FEWEST_SPLITS else 0
    left = seconds - (rounds + CASE_ROUNDS * splits) * round_seconds - FOLLOWING * cycle_seconds
    return Effort(
        rounds=rounds,
        early_cycles=max(0, min(MOST_CYCLES, int(beside / cycle_seconds))),
        cycles=max(1, min(MOST_CYCLES, int(left / cycle_seconds))),
        splits=splits,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A feasible assignment, and how far it can be from the best."""

    assignment: Integers
    cost: int
    bound: int
    """No feasible assignment costs less: proved by the evidence."""
    evidence: Evidence
    certificate: Certificate
    """What is proved without distinguishing cases, which may be less."""
    optimal: bool
    """True only where that's proved."""
    rounds: int
    cycles: int

    @property
    def gap(self) -> float:
        """By which share of the bound the cost is above it, at most; infinite where that says nothing."""
        above = self.cost - self.bound
        return above / self.bound if self.bound > 0 else (float("inf") if above else 0.0)


def never() -> float:
    """Say that no time was spent."""
    return 0.0


def solve(
    instance: Instance,
    *,
    seed: int = 0,
    effort: Effort | None = None,
    spent: Callable[[], float] = never,
    tolerance: int = 1,
) -> Outcome:
    """Return the best assignment found, with a proof of how good it is.

    Args:
        instance: what there is to decide.
        seed: of all random numbers.
        effort: what to do at most; by default what a minute or less is enough for.
        spent: the share of the time that is gone; past 1, what was found is returned.
        tolerance: a cost less than this above the bound counts as optimal; costs are whole numbers.
    """
    effort = effort or Effort()
    level = level_of(instance)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan-scale") as beside:
        pair = _Pair.from_home(instance, level, seed=seed, beside=beside)
        dual, evidence, bound = pair.prove(effort, spent, tolerance)
        cycles = pair.improve(effort, spent, enough=bound + tolerance)
        best = pair.best
    assert is_feasible(instance, best.best)
    assert dual.bound <= bound <= best.cost
    return Outcome(
        assignment=best.best,
        cost=best.cost,
        bound=bound,
        evidence=evidence,
        certificate=dual.certificate,
        optimal=best.cost < bound + tolerance,
        rounds=dual.rounds,
        cycles=cycles,
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two searches, and a thread beside this one."""

    instance: Instance
    level: Level
    first: Search
    second: Search
    beside: ThreadPoolExecutor

    @classmethod
    def from_home(
        cls, instance: Instance, level: Level, *, seed: int, beside: ThreadPoolExecutor
    ) -> "_Pair":
        first, second = (
            Search.from_home(instance, level, seed=seed, stream=stream) for stream in (0, 1)
        )
        return cls(instance, level, first, second, beside)

    @property
    def best(self) -> Search:
        return min(self.first, self.second, key=lambda search: search.cost)

    def prove(
        self, effort: Effort, spent: Callable[[], float], tolerance: int
    ) -> tuple[Dual, Evidence, int]:
        """Let the dual climb, and the first search start on the way; go by cases; start the second.

        Return the dual, and what is proved in the end, with the bound: all of it was checked.
        """

        def enough() -> bool:
            return spent() >= DUAL_SHARE

        def over() -> bool:
            return spent() >= 1

        ascent = Ascent.of(self.instance, self.level, known=self.best.cost)
        ahead = max(1, int(HEAD_START * effort.rounds))
        ascent.climb(ahead, enough)
        early = self.beside.submit(
            _begin, self.first, ascent.suggestion(), effort.early_cycles, over
        )
        ascent.climb(effort.rounds - ahead, enough)
        dual = ascent.proved(enough)
        if not effort.splits:
            self.second.follow(dual.suggestion)
        early.result()
        if not effort.splits or self.best.cost < dual.bound + tolerance:
            return dual, dual.certificate, dual.bound
        evidence, weakest = split(
            ascent,
            dual,
            known=self.best.cost,
            splits=effort.splits,
            beside=self.beside,
            over=over,
        )
        meanwhile = self.beside.submit(improve, self.first, cycles=MEANWHILE, enough=over)
        self.second.follow(weakest.suggestion)
        meanwhile.result()
        return dual, evidence, weakest.bound

    def improve(self, effort: Effort, spent: Callable[[], float], *, enough: int) -> int:
        """Have both go through cycles, and now and then go on from the better; return how many each did."""

        def over() -> bool:
            return spent() >= 1

        done = 0
        while done < effort.cycles and self.best.cost >= enough and not over():
            turn = min(TURN, effort.cycles - done)
            other = self.beside.submit(improve, self.first, cycles=turn, enough=over)
            done += max(improve(self.second, cycles=turn, enough=over), other.result())
            better = self.best.best
            self.first.offer(better)
            self.second.offer(better)
        return done


def _begin(search: Search, suggestion: Suggestion, cycles: int, enough: Callable[[], bool]) -> None:
    search.follow(suggestion)
    improve(search, cycles=cycles, enough=enough)
