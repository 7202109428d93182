"""Conflicts against brute force: every one that is planted is found, none is invented, none is too large."""

from collections.abc import Callable, Sequence
from itertools import combinations, product

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.property.test_plan import POLICIES, UNHURRIED, snapshots
from transhume.knowledge.model import ConflictKind, ConflictMember, Snapshot
from transhume.plan import make_plan
from transhume.plan.conflict.counting import contradictory
from transhume.plan.conflict.question import (
    Bar,
    Crossing,
    InTime,
    Most,
    OneCloud,
    Part,
    Question,
    Room,
    SeveralClouds,
    Wish,
    gather,
)
from transhume.plan.conflict.smallest import arrangement_of, quick_explain, smallest_conflict
from transhume.policies.model import Policy

SEEDS = st.integers(0, 2**32 - 1)


def wish(*parts: Part) -> Wish:
    return Wish(member=ConflictMember(kind=ConflictKind.RULE, text="a wish"), parts=parts)


def question(needs: np.ndarray, cloud: Sequence[int], parts: Sequence[Part]) -> Question:
    return Question(
        count=np.ones(len(needs), dtype=np.int64),
        free=np.ones((len(needs), len(cloud)), dtype=np.bool_),
        needs=needs,
        cloud=np.array(cloud),
        wishes=tuple(wish(part) for part in parts),
    )


def some(rng: np.random.Generator, count: int, least: int = 1) -> np.ndarray:
    """Return some of so many, in ascending order."""
    size = int(rng.integers(least, count + 1))
    return np.sort(rng.choice(count, size=size, replace=False))


def any_part(rng: np.random.Generator, vms: int, places: int, clouds: int) -> Part:
    members = some(rng, vms)
    pairs = np.array(list(combinations(members.tolist(), 2)), dtype=np.int64).reshape(-1, 2)
    place = int(rng.integers(places))
    kinds: list[Callable[[], Part]] = [
        lambda: Bar(members=members, places=rng.random(places) < 0.5),
        lambda: OneCloud(members=members),
        lambda: SeveralClouds(members=members, minimum=int(rng.integers(1, clouds + 1))),
        lambda: Most(
            members=members,
            places=rng.random(places) < 0.6,
            limit=int(rng.integers(0, len(members) + 1)),
        ),
        lambda: InTime(
            members=members,
            place=place,
            seconds=1.0 + members % 2,
            limit=float(rng.integers(1, 8)),
        ),
        lambda: Crossing(
            pairs=pairs, rates=1.0 + pairs.sum(axis=1), limit=float(rng.integers(0, 20))
        ),
    ]
    return kinds[int(rng.integers(len(kinds)))]()


def small_question(seed: int) -> Question:
    """Return up to six VMs in three places of two or three clouds, with room that is nearly too little."""
    rng = np.random.default_rng(seed)
    vms, cloud = int(rng.integers(2, 7)), [(0, 1, 2), (0, 0, 1)][int(rng.integers(2))]
    needs = rng.integers(1, 4, (vms, 2))
    rooms = [
        Room(place=k, resource=r, limit=int(needs[:, r].sum() * rng.uniform(0.2, 0.8)))
        for k in range(3)
        for r in range(2)
        if rng.random() < 0.8
    ]
    others = [any_part(rng, vms, 3, max(cloud) + 1) for _ in range(int(rng.integers(6)))]
    asked = question(needs, cloud, [*others, *rooms])
    if rng.random() < 0.3:
        asked.free[0, 1:] = False
    return asked


class Brute:
    """Knows which wishes every assignment keeps."""

    def __init__(self, asked: Question) -> None:
        vms, places = asked.free.shape
        every = (np.array(choice) for choice in product(range(places), repeat=vms))
        self.kept = np.array(
            [
                asked.kept(arrangement_of(np.arange(vms), places, choice))
                for choice in every
                if asked.free[np.arange(vms), choice].all()
            ]
        )

    def holds(self, chosen: Sequence[int]) -> bool:
        return bool(self.kept[:, list(chosen)].all(axis=1).any())


@settings(max_examples=examples(100), deadline=None, suppress_health_check=UNHURRIED)
@given(SEEDS)
def test_a_conflict_is_found_exactly_where_brute_force_finds_no_placement(seed: int) -> None:
    asked = small_question(seed)
    brute = Brute(asked)

    found = smallest_conflict(gather(asked)[0])

    assert (found is None) == brute.holds(range(len(asked.wishes)))
    if found is not None:
        assert not brute.holds(found.wishes)
        assert found.minimal, "small ones are always decided"
        for dropped in found.wishes:
            assert brute.holds([each for each in found.wishes if each != dropped])


@settings(max_examples=examples(100), deadline=None, suppress_health_check=UNHURRIED)
@given(SEEDS)
def test_counting_never_calls_possible_wishes_contradictory(seed: int) -> None:
    asked = small_question(seed)
    everything = range(len(asked.wishes))

    if any(contradictory(each, everything) for each in (asked, gather(asked)[0])):
        assert not Brute(asked).holds(everything)


# what is planted


def possible(rng: np.random.Generator, cloud: Sequence[int]) -> Question:
    """Return up to thirty VMs with wishes that a hidden arrangement keeps."""
    vms, places = int(rng.integers(8, 30)), len(cloud)
    hidden = arrangement_of(np.arange(vms), places, rng.integers(0, places, vms))
    needs = rng.integers(1, 9, (vms, 2))
    room = hidden.T @ needs + rng.integers(0, 5, (places, 2))
    rooms = [
        Room(place=k, resource=r, limit=int(room[k, r])) for k in range(places) for r in range(2)
    ]
    others = [any_part(rng, vms, places, places) for _ in range(6)]
    asked = question(needs, cloud, [*others, *rooms])
    kept = asked.kept(hidden)
    return question(
        needs, cloud, [w.parts[0] for w, k in zip(asked.wishes, kept, strict=True) if k]
    )


def crowd(rng: np.random.Generator, asked: Question) -> list[Part]:
    """Let some VMs be in some places only, which together lack room by one."""
    members, inside = _members_and_places(rng, asked)
    demand = int(asked.needs[members, 0].sum())
    shares = np.diff(np.linspace(0, demand - 1, int(inside.sum()) + 1).astype(int))
    rooms = zip(np.flatnonzero(inside).tolist(), shares.tolist(), strict=True)
    return [
        Bar(members=members, places=~inside),
        *(Room(place=k, resource=0, limit=share) for k, share in rooms),
    ]


def too_many(rng: np.random.Generator, asked: Question) -> list[Part]:
    """Let some VMs be in some places only, which may hold one too few of them."""
    members, inside = _members_and_places(rng, asked)
    shares = np.diff(np.linspace(0, len(members) - 1, int(inside.sum()) + 1).astype(int))
    limits = zip(np.flatnonzero(inside).tolist(), shares.tolist(), strict=True)
    everyone, places = np.arange(len(asked.count)), np.arange(len(asked.cloud))
    outside = np.setdiff1d(everyone, members)
    return [
        Bar(members=members, places=~inside),
        *([Bar(members=outside, places=inside)] if len(outside) else []),
        *(Most(members=members, places=places == k, limit=share) for k, share in limits),
    ]


def mates_apart(rng: np.random.Generator, asked: Question) -> list[Part]:
    """Let two VMs be together over a chain of others, and each in another cloud only."""
    members = some(rng, len(asked.count), least=3)
    here = asked.cloud == 0
    return [
        OneCloud(members=members[:2]),
        OneCloud(members=members[1:]),
        Bar(members=members[:1], places=~here),
        Bar(members=members[-1:], places=here),
    ]


def too_narrow(rng: np.random.Generator, asked: Question) -> list[Part]:
    """Let VMs be in more clouds than they may be in, counting those that are together once."""
    members = some(rng, len(asked.count), least=3)
    return [
        SeveralClouds(members=members, minimum=2),
        OneCloud(members=members[1:]),
        Bar(members=members[:1], places=asked.cloud != 1),
        Bar(members=members[-1:], places=asked.cloud != 1),
    ]


def too_large_together(rng: np.random.Generator, asked: Question) -> list[Part]:
    """Let VMs be together that no cloud has room for."""
    members = some(rng, len(asked.count), least=2)
    demand = int(asked.needs[members, 1].sum())
    places = [int((asked.cloud == cloud).sum()) for cloud in asked.cloud]
    rooms = [Room(place=k, resource=1, limit=(demand - 1) // many) for k, many in enumerate(places)]
    return [OneCloud(members=members), *rooms]


def _members_and_places(rng: np.random.Generator, asked: Question) -> tuple[np.ndarray, np.ndarray]:
    inside = np.zeros(len(asked.cloud), dtype=np.bool_)
    inside[some(rng, len(asked.cloud) - 1)] = True
    return some(rng, len(asked.count)), inside


KINDS = (crowd, too_many, mates_apart, too_narrow, too_large_together)


@settings(max_examples=examples(500), deadline=None, suppress_health_check=UNHURRIED)
@given(SEEDS, st.sampled_from(KINDS))
@example(2248365398, too_many).via("a quota for several places, and smaller ones for each of them")
def test_a_planted_conflict_is_seen_by_counting_alone(
    seed: int, plant: Callable[[np.random.Generator, Question], list[Part]]
) -> None:
    rng = np.random.default_rng(seed)
    asked = possible(rng, [(0, 1, 2), (0, 0, 1, 2)][seed % 2])
    base = [w.parts[0] for w in asked.wishes]
    planted = question(asked.needs, asked.cloud, [*base, *plant(rng, asked)])

    assert contradictory(gather(planted)[0], range(len(planted.wishes)))


@settings(max_examples=examples(40), deadline=None, suppress_health_check=UNHURRIED)
@given(SEEDS, st.sampled_from(KINDS))
def test_a_planted_conflict_is_named_and_nothing_conflicts_without_it(
    seed: int, plant: Callable[[np.random.Generator, Question], list[Part]]
) -> None:
    rng = np.random.default_rng(seed)
    asked = possible(rng, [(0, 1, 2), (0, 0, 1, 2)][seed % 2])
    base = [w.parts[0] for w in asked.wishes]
    planted = question(asked.needs, asked.cloud, [*base, *plant(rng, asked)])

    found = smallest_conflict(gather(planted)[0])

    assert found is not None
    assert any(index >= len(base) for index in found.wishes), "the others can hold"
    assert smallest_conflict(gather(asked)[0]) is None


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(1, 40), st.data())
def test_quick_explain_returns_exactly_the_one_conflict_there_is(
    n: int, data: st.DataObject
) -> None:
    core = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=6))

    found = quick_explain(tuple(range(n)), lambda chosen: core <= set(chosen))

    assert set(found) == core


# whole plans


def _distinct(policies: list[Policy]) -> bool:
    return len({policy.name for policy in policies}) == len(policies)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=UNHURRIED)
@given(snapshots(), st.lists(POLICIES, min_size=1, max_size=2).filter(_distinct))
def test_a_plan_names_a_conflict_only_where_it_leaves_something_broken(
    snapshot: Snapshot, policies: list[Policy]
) -> None:
    result = make_plan(snapshot, policies, trigger="a test")

    if result.conflict is not None:
        assert result.unplaced
        assert result.conflict.members
        assert len(set(result.conflict.members)) == len(result.conflict.members)
