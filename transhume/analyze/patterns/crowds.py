"""Crowds: an all-to-all, said directly or, as message-passing libraries do with small messages, in log n steps.

In the algorithm of Bruck et al. (1997) the VM at place i sends in step k to the one at i + 2^k, and passes on
what it got: everybody's data reach everybody, though few pairs talk.
"""

import numpy as np

from transhume.analyze.patterns.flow import Flow, Shape, evenness
from transhume.analyze.patterns.lines import ring
from transhume.analyze.ties import Members, Weights
from transhume.knowledge.model import PatternKind

PRESENT = 0.85
"""The share of all pairs that must talk noticeably."""
NOTICEABLE = 0.2
"""Beside what each pair would say if all said the same."""
STEPS_TO = 1024
"""Up to so many VMs the steps of a larger crowd are looked for."""


def all_to_all(flow: Flow) -> Shape | None:
    """Recognise that each two VMs talk."""
    count = flow.count
    possible = count * (count - 1) // 2
    weight = flow.links.weight
    if count < 3 or (count == 3 and ring(flow) is not None):
        return None
    if (weight >= NOTICEABLE * weight.sum() / possible).sum() < PRESENT * possible:
        return None
    every = np.zeros(possible)
    every[: len(weight)] = weight
    score = evenness(every) * float(weight.sum()) / flow.total
    return Shape(PatternKind.ALL_TO_ALL, np.arange(count), score)


def all_to_all_in_steps(flow: Flow) -> Shape | None:
    """Recognise Bruck's steps: each VM sends to those 1, 2, 4, ... places on in some order of the VMs."""
    count = flow.count
    if not 6 <= count <= STEPS_TO:
        return None
    steps = [1 << k for k in range((count - 1).bit_length())]
    links = flow.links
    source = np.concatenate((links.one, links.other))
    destination = np.concatenate((links.other, links.one))
    said = np.concatenate((links.forward, links.weight - links.forward))
    heaviest = np.argsort(-said, kind="stable")[: count * len(steps)]
    source, destination, said = source[heaviest], destination[heaviest], said[heaviest]
    sends = np.bincount(source, minlength=count)
    hears = np.bincount(destination, minlength=count)
    if (sends != len(steps)).any() or (hears != len(steps)).any() or not said.all():
        return None
    order = _order(source, destination, count, steps)
    if order is None:
        return None
    step = _distances(order, source, destination)
    if not np.isin(step, steps).all():
        return None
    return Shape(PatternKind.ALL_TO_ALL, order, _score(said, step, flow))


def _score(said: Weights, step: Members, flow: Flow) -> float:
    return evenness(said, step) * float(said.sum()) / flow.total


def _distances(order: Members, source: Members, destination: Members) -> Members:
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return np.asarray((place[destination] - place[source]) % len(order), dtype=np.intp)


def _order(source: Members, destination: Members, count: int, steps: list[int]) -> Members | None:
    """Place the VMs one after another so that each is heard from 1, 2, 4, ... places before, or give up."""
    hears_from: list[set[int]] = [set() for _ in range(count)]
    sends_to: list[set[int]] = [set() for _ in range(count)]
    for one, other in zip(source.tolist(), destination.tolist(), strict=True):
        sends_to[one].add(other)
        hears_from[other].add(one)
    order = [0]
    used = {0}
    waiting = [sorted(sends_to[0])]
    patience = 50 * count
    while waiting and patience:
        patience -= 1
        if not waiting[-1]:
            waiting.pop()
            used.discard(order.pop())
            continue
        chosen = waiting[-1].pop()
        order.append(chosen)
        used.add(chosen)
        if len(order) == count:
            return np.array(order, dtype=np.intp)
        at = len(order)
        follow = set.intersection(*(sends_to[order[at - step]] for step in steps if step <= at))
        round_the_end = [order[at + step - count] for step in steps if 0 <= at + step - count < at]
        waiting.append(sorted(vm for vm in follow - used if sends_to[vm].issuperset(round_the_end)))
    return None
