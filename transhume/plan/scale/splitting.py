"""Proves more by cases: where the dual can't tell between two clouds, it is asked about each of them.

A large community may fit no cloud at the price of room there, and the dual then mixes: all of it here for a
part, all of it there for the rest, which keeps the limits on average and cuts no traffic. No prices and
messages prove more than such a mixture costs. But a VM of it is in the one cloud or it isn't, and of either
case the dual, going on from where it was, can prove more. The weakest case is split further: branch and bound,
of which only the bound is of interest.

Mixtures show in what the rounds of an ascent decode. Split is by the VM that has most traffic with others that
are mixed too: it takes them with it. The two cases of a split are proved side by side, which changes neither.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from transhume.plan.scale.certificate import Cases, Evidence, certified_bound
from transhume.plan.scale.dual import Ascent, Dual
from transhume.plan.scale.instance import Booleans, Integers
from transhume.plan.scale.level import Reals

ROUNDS = 25
"""Of the dual, for a case."""
STEP, WATCHING_STEP = 0.1, 0.01
"""Of the prices, at first: in a case, and where only the mixture is of interest."""

NO_USE, LESS = 0.01, 0.2
"""What share of the gap is too little for a split to gain; how much less its VM counts then."""


@dataclass(slots=True)
class _Case:
    """What is known where some VMs are in some clouds; split in two, or not."""

    ascent: Ascent
    dual: Dual
    decoded: Integers
    """By VM and cloud: in how many rounds the VM was there."""
    halves: "_Halves | None" = None

    def weakest(self) -> "_Case":
        """Return the case, of those that aren't split, of which the least is proved."""
        if self.halves is None:
            return self
        inside, outside = self.halves.inside.weakest(), self.halves.outside.weakest()
        return inside if inside.dual.bound <= outside.dual.bound else outside

    def evidence(self) -> Evidence:
        """Return what was proved, all cases together."""
        halves = self.halves
        if halves is None:
            return self.dual.certificate
        return Cases(
            vm=halves.vm,
            clouds=halves.clouds,
            inside=halves.inside.evidence(),
            outside=halves.outside.evidence(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Halves:
    vm: int
    clouds: Booleans
    inside: _Case
    outside: _Case


def split(
    ascent: Ascent,
    dual: Dual,
    *,
    known: int,
    splits: int,
    beside: ThreadPoolExecutor,
    over: Callable[[], bool],
) -> tuple[Evidence, Dual]:
    """Return evidence, for a higher bound than the dual's if possible, and its weakest case.

    Args:
        ascent: what proved the dual; it is gone on with.
        dual: what is proved without cases.
        known: what the best assignment known costs.
        splits: how often a case is split at most.
        beside: where one of two cases is looked at.
        over: asked before each split.
    """
    if not splits:
        return dual.certificate, dual
    ascent.known, ascent.step = float(known), WATCHING_STEP
    root = _Case(ascent, dual, _watched(ascent))
    use = np.ones(ascent.instance.vm_count)
    for _ in range(splits):
        case = root.weakest()
        mixed = use * _mixed(case)
        vm = int(mixed.argmax())
        if case.dual.bound >= known or mixed[vm] <= 0 or over():
            break
        case.halves = _halves(case, vm, known, beside)
        least = min(case.halves.inside.dual.bound, case.halves.outside.dual.bound)
        if least - case.dual.bound < NO_USE * (known - case.dual.bound):
            use[vm] *= LESS
    return root.evidence(), root.weakest().dual


def _halves(case: _Case, vm: int, known: int, beside: ThreadPoolExecutor) -> _Halves:
    """Split a case by whether a VM is where it was most of the time."""
    clouds = np.arange(case.decoded.shape[1]) == case.decoded[vm].argmax()
    allowed = case.ascent.field.level.allowed
    inside, outside = allowed.copy(), allowed.copy()
    inside[vm] &= clouds
    outside[vm] &= ~clouds
    other = beside.submit(_case, case, outside, known)
    return _Halves(vm=vm, clouds=clouds, inside=_case(case, inside, known), outside=other.result())


def _case(whole: _Case, allowed: Booleans, known: int) -> _Case:
    """Look at the assignments of a case that keep to less; what holds for all holds for them."""
    ascent = whole.ascent.narrowed(allowed, known=known, step=STEP)
    decoded = _watched(ascent)
    dual = ascent.proved()
    if dual.bound < whole.dual.bound:
        certificate = whole.dual.certificate
        bound = certified_bound(ascent.instance, certificate, allowed)
        dual = dataclasses.replace(dual, bound=bound, certificate=certificate)
    return _Case(ascent, dual, decoded)


def _watched(ascent: Ascent) -> Integers:
    """Go on for some rounds, and count where each VM was decoded."""
    decoded = np.zeros(ascent.field.level.moved.shape, dtype=np.int64)
    everyone = np.arange(len(decoded))
    for _ in range(ROUNDS):
        if ascent.rounds and ascent.done:
            break
        ascent.round()
        decoded[everyone, ascent.field.decoded] += 1
    return decoded


def _mixed(case: _Case) -> Reals:
    """Return what each VM's traffic with others would cost, by how much both ends are mixed."""
    instance, counts = case.ascent.instance, case.decoded
    mixed = 1.0 - counts.max(axis=1) / np.maximum(1, counts.sum(axis=1))
    one, other = instance.pairs.T
    crossing = instance.traffic.sum(axis=1) * float(instance.price.mean())
    along = np.bincount(one, crossing * mixed[other], instance.vm_count)
    along += np.bincount(other, crossing * mixed[one], instance.vm_count)
    return np.asarray(mixed * along)
