"""The part of the gate that asks for every instant of a plan, however long its moves take.

Shares no code with the scheduler. A plan's steps are in an order; each relies on some before it, which must
have been done when it begins. Nothing else is assumed of what goes on at the same time: a step before it in the
order may have ended, be on its way, have failed or not have begun.

    room     Of all steps that have begun to arrive at a host, look at the last in the order. Those before it
             may all be there. Sure to have left are the steps that it relies on, and what those rely on. If
             that fits for each step, it fits at every instant.
    spread   Look at the last step in the order that has begun. What it relies on has arrived, what comes after
             it hasn't left, and it and all others may be at either end. If the spread holds for each step,
             wherever these are, it holds at every instant.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from transhume.knowledge.model import (
    CloudName,
    HostName,
    Resources,
    Snapshot,
    Step,
    StepId,
    VmName,
)

MOST_UNSURE = 12
"""So many members of a spread may be at either end at once, where all their states have to be tried."""
Sure = Sequence[int]
"""By step, the steps that are sure to have been done before it begins, each as a bit."""


def misordered(steps: Sequence[Step]) -> Iterator[str]:
    """Say where steps wait for what doesn't come before them, or begin before that has ended."""
    seen: dict[StepId, Step] = {}
    stage = 0
    for step in steps:
        if step.stage < stage:
            yield f"{step.id}: stage {step.stage} comes after stage {stage}"
        stage = step.stage
        for other in (*step.after, *step.relies_on):
            if other not in seen:
                yield f"{step.id} waits for {other}, which doesn't come before it"
            elif seen[other].ends_after_seconds > step.starts_after_seconds + 1e-6:
                yield f"{step.id} begins before {other} has ended"
        seen[step.id] = step


def sure_before(steps: Sequence[Step]) -> list[int]:
    """Return what is sure to have been done before each step; all earlier stages, where nothing is named."""
    by_stage = not any(step.after or step.relies_on for step in steps)
    if by_stage:
        return [
            sum(1 << n for n, other in enumerate(steps) if other.stage < step.stage)
            for step in steps
        ]
    number = {step.id: n for n, step in enumerate(steps)}
    sure: list[int] = []
    for step in steps:
        found = 0
        for other in step.relies_on:
            found |= sure[number[other]] | 1 << number[other]
        sure.append(found)
    return sure


def overfull(
    steps: Sequence[Step],
    sure: Sure,
    free: Mapping[HostName, Resources],
    needs: Mapping[VmName, Resources],
) -> Iterator[str]:
    """Say which hosts may at some instant have to hold more than they can."""
    arrived: dict[HostName, Resources] = {}
    leaving: dict[HostName, list[int]] = defaultdict(list)
    for number, step in enumerate(steps):
        leaving[step.source].append(number)
    for number, step in enumerate(steps):
        host = step.destination
        arrived[host] = arrived.get(host, Resources(vcpus=0, memory_bytes=0)) + needs[step.vm]
        room = free[host] - arrived[host]
        for other in leaving[host]:
            if sure[number] >> other & 1:
                room += needs[steps[other].vm]
        if room.vcpus < 0 or room.memory_bytes < 0:
            yield f"stage {step.stage}: {host} has no room for all that arrive"


def least_breadth(
    number: int,
    steps: Sequence[Step],
    sure: Sure,
    members: Sequence[VmName],
    home: Mapping[VmName, CloudName],
) -> int:
    """Return in how many clouds the members are at least, while this step is the last that has begun."""
    where = {vm: {home[vm]} for vm in members}
    for other, step in enumerate(steps[: number + 1]):
        if step.vm in where:
            if sure[number] >> other & 1:
                where[step.vm] = {step.destination_cloud}
            else:
                where[step.vm] |= {step.source_cloud, step.destination_cloud}
    settled = {next(iter(clouds)) for clouds in where.values() if len(clouds) == 1}
    unsure = [clouds for clouds in where.values() if len(clouds) > 1]
    if len(unsure) > MOST_UNSURE:
        return len(settled)
    return min(len(settled.union(state)) for state in product(*unsure))


def too_late(snapshot: Snapshot, steps: Sequence[Step]) -> Iterator[str]:
    """Say which steps leave a host that will be gone by then; nothing where a link's rate is a guess."""
    for step in steps:
        here, there = step.source_cloud, step.destination_cloud
        if here == there or not snapshot.bytes_per_second_between(here, there):
            continue
        ends = step.ends_after_seconds
        for notice in snapshot.notices:
            left = (notice.deadline - snapshot.at).total_seconds()
            if (
                not notice.withdrawn
                and notice.cloud == here
                and notice.host in (None, step.source)
                and step.deadline is not None
                and ends > left + 1e-3
            ):
                yield f"{step.vm} would arrive after {ends:.0f} s, and the notice leaves {left:.0f} s"
