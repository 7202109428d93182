"""What is asked when wishes may conflict: VMs, places, and wishes of which each is kept or dropped as a whole.

A *wish* is a rule of a policy, a notice, a cloud's capacity, the time on a link: whatever a person could give
up. It's made of parts, each of which an arrangement keeps or breaks. VMs that no wish tells apart are counted,
not named: an *arrangement* says how many of each kind are in each place, as whole numbers by kind and place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import ConflictMember
from transhume.plan.constraints import NEGLIGIBLE_SECONDS

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Arrangement = Integers


@dataclass(frozen=True, kw_only=True)
class Bar:
    """None of the members is in any of these places."""

    members: Integers
    places: Booleans


@dataclass(frozen=True, kw_only=True)
class Room:
    """All that is in the place needs no more than this of a resource."""

    place: int
    resource: int
    limit: int


@dataclass(frozen=True, kw_only=True)
class OneCloud:
    """The members are in one cloud."""

    members: Integers


@dataclass(frozen=True, kw_only=True)
class SeveralClouds:
    """The members are in at least so many clouds."""

    members: Integers
    minimum: int


@dataclass(frozen=True, kw_only=True)
class Most:
    """At most so many of the members are in these places."""

    members: Integers
    places: Booleans
    limit: int


@dataclass(frozen=True, kw_only=True)
class InTime:
    """The members that are in the place take no longer to get there, one after the other, than this."""

    members: Integers
    place: int
    seconds: Reals
    limit: float


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """No more than this crosses clouds between these pairs."""

    pairs: Integers
    rates: Reals
    limit: float

    @property
    def members(self) -> Integers:
        """Everybody who is in a pair."""
        return np.unique(self.pairs)


Part = Bar | Room | OneCloud | SeveralClouds | Most | InTime | Crossing


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is kept or dropped as a whole."""

    member: ConflictMember
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Question:
    """Can all wishes hold?"""

    count: Integers
    """How many VMs of each kind there are."""
    free: Booleans
    """Where a kind may be before any wish is heeded, by kind and place."""
    needs: Integers
    """By kind and resource."""
    cloud: Integers
    """The index of each place's cloud."""
    wishes: tuple[Wish, ...]

    def parts(self, chosen: Sequence[int]) -> Iterator[Part]:
        """Return the parts of some of the wishes, which are named by their index."""
        for index in chosen:
            yield from self.wishes[index].parts

    def allowed(self, chosen: Sequence[int]) -> Booleans:
        """Return where each kind may be if these wishes hold, as far as single VMs go."""
        allowed = self.free.copy()
        for part in self.parts(chosen):
            if isinstance(part, Bar):
                allowed[part.members] &= ~part.places
        return allowed

    def kept(self, arrangement: Arrangement) -> Booleans:
        """Return which wishes an arrangement keeps."""
        return np.array(
            [all(self._keeps(part, arrangement) for part in wish.parts) for wish in self.wishes],
            dtype=np.bool_,
        )

    def clouds_of(self, arrangement: Arrangement, members: Integers) -> Booleans:
        """Return which clouds each of the members is in, by member and cloud."""
        there = np.zeros((len(members), int(self.cloud.max()) + 1), dtype=np.bool_)
        for place, cloud in enumerate(self.cloud):
            there[:, cloud] |= arrangement[members, place] > 0
        return there

    def _keeps(self, part: Part, arrangement: Arrangement) -> bool:
        match part:
            case Bar(members=members, places=places):
                return not arrangement[members][:, places].any()
            case Room(place=place, resource=resource, limit=limit):
                return bool(arrangement[:, place] @ self.needs[:, resource] <= limit)
            case OneCloud(members=members):
                return int(self.clouds_of(arrangement, members).any(axis=0).sum()) <= 1
            case SeveralClouds(members=members, minimum=minimum):
                return int(self.clouds_of(arrangement, members).any(axis=0).sum()) >= minimum
            case Most(members=members, places=places, limit=limit):
                return bool(arrangement[members][:, places].sum() <= limit)
            case InTime(members=members, place=place, seconds=seconds, limit=limit):
                busy = float(arrangement[members, place] @ seconds)
                return busy <= limit + NEGLIGIBLE_SECONDS
            case Crossing(pairs=pairs, rates=rates, limit=limit):
                one, other = (self.clouds_of(arrangement, end).argmax(axis=1) for end in pairs.T)
                return float(rates[one != other].sum()) <= limit * (1 + 1e-9) + 1e-6


def gather(question: Question) -> tuple[Question, Integers]:
    """Return the question with VMs that nothing tells apart counted as one kind, and each VM's kind."""
    marks = [question.free.astype(np.int64), question.needs]
    parts = [part for wish in question.wishes for part in wish.parts]
    marks += [_mark(part, len(question.count))[:, None] for part in parts]
    _, first, kind = np.unique(np.hstack(marks), axis=0, return_index=True, return_inverse=True)
    kind = kind.reshape(-1)
    gathered = Question(
        count=np.bincount(kind, question.count, len(first)).astype(np.int64),
        free=question.free[first],
        needs=question.needs[first],
        cloud=question.cloud,
        wishes=tuple(
            replace(wish, parts=tuple(_renamed(part, kind) for part in wish.parts))
            for wish in question.wishes
        ),
    )
    return gathered, kind


def narrowed(question: Question, chosen: Sequence[int]) -> tuple[Question, Integers]:
    """Return the question about some wishes only, without the differences that only others make."""
    parts = tuple(question.parts(chosen))
    heeded = [
        any(isinstance(part, Room) and part.resource == r for part in parts)
        for r in range(question.needs.shape[1])
    ]
    wishes = tuple(question.wishes[index] for index in chosen)
    return gather(replace(question, needs=question.needs * heeded, wishes=wishes))


def widened(arrangement: Arrangement, kind: Integers, question: Question) -> Arrangement:
    """Return an arrangement of a narrowed question as one of the question itself."""
    wide = np.zeros_like(question.free, dtype=np.int64)
    left = arrangement.copy()
    for each, narrow in enumerate(kind):
        missing = int(question.count[each])
        for place in np.flatnonzero(left[narrow]):
            wide[each, place] = min(missing, int(left[narrow, place]))
            left[narrow, place] -= wide[each, place]
            missing -= wide[each, place]
            if not missing:
                break
    return wide


def _mark(part: Part, count: int) -> Integers:
    """Return a number for each VM; VMs of unlike numbers are not the same to this part."""
    mark = np.zeros(count, dtype=np.int64)
    match part:
        case Room():
            pass
        case InTime(members=members, seconds=seconds):
            mark[members] = 1 + np.unique(seconds, return_inverse=True)[1]
        case Crossing():
            mark[part.members] = 1 + np.arange(len(part.members))
        case _:
            mark[part.members] = 1
    return mark


def _renamed(part: Part, kind: Integers) -> Part:
    match part:
        case Room():
            return part
        case Crossing(pairs=pairs):
            return replace(part, pairs=kind[pairs])
        case InTime(members=members, seconds=seconds):
            kinds, first = np.unique(kind[members], return_index=True)
            return replace(part, members=kinds, seconds=seconds[first])
        case _:
            return replace(part, members=np.unique(kind[part.members]))
