"""Symptoms: what changed between two looks at the knowledge that is a reason to think again.

Pure: what was told already is a memory that goes in and comes out. What lasts is no symptom a second time, and
what flaps about its threshold is one once: a thing is told at one threshold and forgotten at another, further
back or after a while (`watching` says which, for each). At the first look there is nothing to compare with, and
what stands (a notice, a split group, a late job) counts as new.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from transhume.analyze.watching.prices import PricesTold
from transhume.analyze.watching.risks import RisksTold
from transhume.analyze.watching.room import RoomTold
from transhume.analyze.watching.splits import SplitsTold
from transhume.knowledge.model import RevocationNotice, Snapshot, Symptom, SymptomKind
from transhume.policies.model import Policy
from transhume.quantities import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class SymptomMemory:
    """The last look, and what was told of what may flap."""

    last: Snapshot
    prices: PricesTold
    splits: SplitsTold
    risks: RisksTold
    room: RoomTold

    @classmethod
    def as_of(cls, snapshot: Snapshot, policies: Iterable[Policy]) -> "SymptomMemory":
        """Return the memory of one who knows nothing but a snapshot, and was told what stands in it."""
        return cls(
            last=snapshot,
            prices=PricesTold.as_of(snapshot),
            splits=SplitsTold().look(snapshot)[1],
            risks=RisksTold.as_of(snapshot, policies),
            room=RoomTold(),
        )


def find_symptoms(
    before: Snapshot | None, now: Snapshot, policies: Iterable[Policy]
) -> tuple[Symptom, ...]:
    """Return what has become a reason to think again since `before` (None: the first look).

    For two looks by themselves; who looks again and again keeps the memory of `watch`.
    """
    policies = tuple(policies)
    memory = SymptomMemory.as_of(before, policies) if before is not None else None
    return watch(memory, now, policies)[0]


def watch(
    memory: SymptomMemory | None, now: Snapshot, policies: Iterable[Policy]
) -> tuple[tuple[Symptom, ...], SymptomMemory]:
    """Return what has become a reason to think again, and the memory for the next look.

    Args:
        memory: what the look before returned; None at the first one.
        now: what is known now.
        policies: whose deadlines count.
    """
    before = memory.last if memory else None
    told_prices = memory.prices if memory else PricesTold.as_of(now)
    price_news, prices = told_prices.look(now)
    split_news, splits = (memory.splits if memory else SplitsTold()).look(now)
    risk_news, risks = (memory.risks if memory else RisksTold()).look(now, policies)
    told_room = memory.room if memory else RoomTold()
    room_news, room = told_room.look(before, now) if before else ([], told_room)

    symptoms = (
        *_told(SymptomKind.NOTICE, _notices(before, now), now),
        *_told(SymptomKind.VM_LOST, _lost_vms(before, now), now),
        *_told(SymptomKind.DEADLINE_AT_RISK, risk_news, now),
        *_told(SymptomKind.PRICE_CHANGED, price_news, now),
        *_told(SymptomKind.CAPACITY_BACK, _notices_taken_back(before, now), now),
        *_told(SymptomKind.CAPACITY_BACK, room_news, now),
        *_told(SymptomKind.GROUP_SPLIT, split_news, now),
    )
    return symptoms, SymptomMemory(last=now, prices=prices, splits=splits, risks=risks, room=room)


def _told(kind: SymptomKind, news: Iterable[tuple[str, str]], now: Snapshot) -> Iterator[Symptom]:
    for subject, detail in news:
        yield Symptom(kind=kind, subject=subject, at=now.at, detail=detail)


# --- what can't flap ---------------------------------------------------------------------------------


def _notices(before: Snapshot | None, now: Snapshot) -> Iterator[tuple[str, str]]:
    known = {_what(notice) for notice in before.notices} if before else set()
    for notice in now.notices:
        if _what(notice) not in known and not notice.withdrawn and notice.deadline > now.at:
            left = format_duration((notice.deadline - now.at).total_seconds())
            yield _place(notice), f"{_place(notice)} will be gone in {left}"


def _notices_taken_back(before: Snapshot | None, now: Snapshot) -> Iterator[tuple[str, str]]:
    in_force = {(notice.cloud, notice.host) for notice in now.notices if not notice.withdrawn}
    for notice in before.notices if before else ():
        if (notice.cloud, notice.host) not in in_force and now.at < notice.deadline:
            yield notice.cloud, f"{_place(notice)} took its notice back"


def _lost_vms(before: Snapshot | None, now: Snapshot) -> Iterator[tuple[str, str]]:
    placed = before.placement.host_of if before else {}
    for vm in sorted(placed.keys() - now.placement.host_of.keys() - now.moving):
        yield vm, f"{vm} was on {placed[vm]} and is nowhere now"


def _what(notice: RevocationNotice) -> tuple[object, ...]:
    return notice.cloud, notice.host, notice.deadline


def _place(notice: RevocationNotice) -> str:
    return f"host {notice.host} of {notice.cloud}" if notice.host else notice.cloud
