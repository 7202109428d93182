"""Cheap proofs that wishes conflict: what counting shows without any search.

First each kind of VM loses the places that it can't be in (barred, too small, its mates can't follow), until
nothing changes. Then the pigeonhole principle is asked of sets of places: VMs that have nowhere else to go must
fit into them, by each resource and by number (Hall's condition, for the sets of places that occur). What these
tests call contradictory is so; what they pass may still be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transhume.plan.conflict.question import (
    Booleans,
    Integers,
    Most,
    OneCloud,
    Question,
    Room,
    SeveralClouds,
)

BOUNDLESS = 1 << 60
MOST_SETS = 200
"""Of places, that the pigeonhole principle is asked of."""
MOST_MATCHED = 500
"""VMs whose ways into clouds are matched one by one."""
ROUNDS = 8


def contradictory(question: Question, chosen: Sequence[int]) -> bool:
    """Say whether counting shows that these wishes (by index) can't all hold."""
    parts = tuple(question.parts(chosen))
    count = _Count(
        question=question,
        allowed=question.allowed(chosen),
        room=_room(question, [part for part in parts if isinstance(part, Room)]),
        mates=_joined([part.members for part in parts if isinstance(part, OneCloud)]),
        quotas=[part for part in parts if isinstance(part, Most)],
        spreads=[part for part in parts if isinstance(part, SeveralClouds)],
    )
    return count.shows_contradiction()


def _room(question: Question, parts: Sequence[Room]) -> Integers:
    room = np.full((len(question.cloud), question.needs.shape[1]), BOUNDLESS, dtype=np.int64)
    for part in parts:
        room[part.place, part.resource] = min(room[part.place, part.resource], part.limit)
    return room


def _joined(sets: list[Integers]) -> list[Integers]:
    """Return the sets, those that share a member made one."""
    joined: list[set[int]] = []
    for members in sets:
        new = set(members.tolist())
        apart = [each for each in joined if each.isdisjoint(new)]
        met = [each for each in joined if not each.isdisjoint(new)]
        joined = [*apart, new.union(*met)]
    return [np.array(sorted(each), dtype=np.int64) for each in joined]


@dataclass(kw_only=True)
class _Count:
    question: Question
    allowed: Booleans
    room: Integers
    """By place and resource."""
    mates: list[Integers]
    """Kinds that are in one cloud."""
    quotas: list[Most]
    spreads: list[SeveralClouds]

    def shows_contradiction(self) -> bool:
        for _ in range(ROUNDS):
            before = int(self.allowed.sum())
            self._exclude_what_doesnt_fit()
            self._exclude_over_quota()
            self._keep_mates_together()
            if not self.allowed.any(axis=1).all():
                return True
            if int(self.allowed.sum()) == before:
                break
        return self._too_few_clouds() or self._too_many_pigeons()

    def _exclude_what_doesnt_fit(self) -> None:
        """Take what can only be in one place as being there; who doesn't fit beside it isn't."""
        question = self.question
        settled = self.allowed.sum(axis=1) == 1
        there = self.allowed[settled].T.astype(np.int64)
        taken = there @ (question.needs * question.count[:, None])[settled]
        left = self.room - taken
        fits = (question.needs[:, None, :] <= left).all(axis=2)
        self.allowed[~settled] &= fits[~settled]
        self.allowed[settled] &= (left >= 0).all(axis=1)

    def _exclude_over_quota(self) -> None:
        for quota in self.quotas:
            inside = self.allowed[quota.members]
            bound = ~inside[:, ~quota.places].any(axis=1)
            taken = int(self.question.count[quota.members[bound]].sum())
            if taken > quota.limit:
                self.allowed[quota.members[bound]] = False
            elif taken == quota.limit:
                self.allowed[quota.members[~bound]] &= ~quota.places

    def _keep_mates_together(self) -> None:
        """Leave mates only the clouds in which each has a place, and all together have room."""
        question = self.question
        for members in self.mates:
            needs = question.count[members] @ question.needs[members]
            for cloud in np.unique(question.cloud):
                places = question.cloud == cloud
                there = self.allowed[members][:, places]
                room = np.minimum(self.room[places][there.any(axis=0)], BOUNDLESS // 64)
                if not there.any(axis=1).all() or (room.sum(axis=0) < needs).any():
                    self.allowed[np.ix_(members, places)] = False

    def _too_few_clouds(self) -> bool:
        return any(self._breadth(part) < part.minimum for part in self.spreads)

    def _breadth(self, part: SeveralClouds) -> int:
        """Return how many clouds the members can be in at most; more where that is too much to count."""
        clouds = np.unique(self.question.cloud)
        reach = np.stack(
            [self.allowed[part.members][:, self.question.cloud == c].any(axis=1) for c in clouds], 1
        )
        reached = int(reach.any(axis=0).sum())
        units = self._units(part.members, reach, len(clouds))
        if reached < part.minimum or len(units) < part.minimum or len(units) > MOST_MATCHED:
            return min(reached, len(units))
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_bipartite_matching

        matched = maximum_bipartite_matching(csr_array(units), perm_type="column")
        return int((matched >= 0).sum())

    def _units(self, members: Integers, reach: Booleans, clouds: int) -> Booleans:
        """Return a row for each VM, and one for all that are in one cloud together."""
        own = {int(m): row for row, m in enumerate(members)}
        rows = []
        for mates in self.mates:
            ours = [own.pop(int(m)) for m in mates if int(m) in own]
            if ours:
                rows.append(reach[ours].all(axis=0))
        for member, row in own.items():
            rows += [reach[row]] * min(int(self.question.count[member]), clouds)
        return np.array(rows, dtype=np.bool_).reshape(-1, clouds)

    def _too_many_pigeons(self) -> bool:
        ways, kind = np.unique(self.allowed, axis=0, return_inverse=True)
        kind = kind.reshape(-1)
        holes = _unions(ways)
        within = np.logical_not((ways[None, :, :] & ~holes[:, None, :]).any(axis=2))
        return self._too_heavy(holes, within, kind) or self._too_many(holes, within, kind)

    def _too_heavy(self, holes: Booleans, within: Booleans, kind: Integers) -> bool:
        question = self.question
        demand = np.zeros((within.shape[1], question.needs.shape[1]), dtype=np.int64)
        np.add.at(demand, kind, question.needs * question.count[:, None])
        room = holes.astype(np.int64) @ np.clip(self.room, 0, BOUNDLESS // 64)
        return bool((within.astype(np.int64) @ demand > room).any())

    def _too_many(self, holes: Booleans, within: Booleans, kind: Integers) -> bool:
        """Count VMs: those of a quota, and all; at most so many of the smallest fit into a place."""
        everyone = np.arange(len(kind))
        sets = {tuple(quota.members.tolist()): quota.members for quota in self.quotas}
        return any(
            self._crowded(members, holes, within[:, kind[members]])
            for members in (everyone, *sets.values())
        )

    def _crowded(self, members: Integers, holes: Booleans, within: Booleans) -> bool:
        question = self.question
        number = within.astype(np.int64) @ question.count[members]
        quotas = sorted(
            (q for q in self.quotas if np.isin(members, q.members).all()),
            key=lambda quota: (int(quota.places.sum()), quota.limit),
        )
        for hole, inside, many in zip(holes, within, number, strict=True):
            if not many:
                continue
            least = np.maximum(1, question.needs[members[inside]].min(axis=0))
            holds = (np.clip(self.room, 0, BOUNDLESS // 64) // least).min(axis=1)
            if many > _most(holds * hole, hole, quotas):
                return True
        return False


def _most(holds: Integers, hole: Booleans, quotas: Sequence[Most]) -> int:
    """Return how many VMs the places of a set hold, quotas counted where they are about fewer."""
    left, total = hole.copy(), 0
    for quota in quotas:
        mine = quota.places & left
        if mine.any() and quota.limit < holds[mine].sum():
            total += quota.limit
            left &= ~mine
    return total + int(holds[left].sum())


def _unions(ways: Booleans) -> Booleans:
    """Return sets of places worth asking: those that occur, unions of two, and all."""
    sets = {row.tobytes(): row for row in ways[:MOST_SETS]}
    for one in ways[:MOST_SETS]:
        for other in ways[:MOST_SETS]:
            if len(sets) >= MOST_SETS:
                break
            union = one | other
            sets.setdefault(union.tobytes(), union)
    everywhere = np.ones(ways.shape[1], dtype=np.bool_)
    sets.setdefault(everywhere.tobytes(), everywhere)
    return np.array(list(sets.values()), dtype=np.bool_)
