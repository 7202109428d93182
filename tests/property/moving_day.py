"""Random moves between hosts with little room to spare, and what a schedule of them looks like as steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

import numpy as np
from hypothesis import strategies as st

from transhume.knowledge.model import (
    NOTHING,
    CloudName,
    CostRate,
    GroupId,
    HostName,
    MoveKind,
    Plan,
    PlanId,
    Prediction,
    Resources,
    Step,
    StepId,
    VmName,
)
from transhume.plan.check_meanwhile import least_breadth, misordered, overfull, sure_before
from transhume.plan.schedule import AlwaysSpread, Berth, Berths, Chatter, Leg, Move, Talk, Terms

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
HOSTS = ("a1", "a2", "b1", "c1", "d1")


@dataclass(frozen=True, kw_only=True)
class MovingDay:
    """Moves, what they have to heed, and where everybody is at first."""

    moves: tuple[Move, ...]
    terms: Terms
    host_of: Mapping[VmName, HostName]
    needs: Mapping[VmName, Resources]


def sized(units: int) -> Resources:
    return Resources(vcpus=units, memory_bytes=units << 20)


def cloud(host: str) -> CloudName:
    return CloudName(host.rstrip("0123456789"))


def a_move(
    vm: str,
    source: str,
    destination: str,
    *,
    units: int = 1,
    seconds: float = 10.0,
    unit: str = "",
    urgency: tuple[float, ...] = (),
    ends_within: float = float("inf"),
) -> Move:
    return Move(
        vm=VmName(vm),
        source=HostName(source),
        destination=HostName(destination),
        source_cloud=cloud(source),
        destination_cloud=cloud(destination),
        needs=sized(units),
        seconds=seconds,
        unit=unit or vm,
        urgency=urgency,
        ends_within=ends_within,
    )


def berths_on(hosts: Sequence[str], seconds: float = 5.0) -> Berths:
    """Return a rule that lets everybody be parked on these hosts, at a price that grows with the VM."""

    def berths(move: Move) -> Sequence[Berth]:
        return [
            Berth(
                host=HostName(host),
                cloud=cloud(host),
                seconds_in=seconds,
                seconds_out=seconds,
                dollars=float(move.needs.vcpus),
            )
            for host in hosts
        ]

    return berths


@st.composite
def moving_days(
    draw: st.DrawFn, *, most: int = 8, spreads: bool = True, deadlines: bool = True
) -> MovingDay:
    """Draw up to so many moves between five hosts in four clouds; slack is scarce."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, most))
    slack = draw(st.sampled_from([0, 0, 1, 3]))
    names = [VmName(f"v{n}") for n in range(count)]
    units = {vm: int(rng.integers(1, 4)) for vm in names}
    here = {vm: HostName(str(rng.choice(HOSTS))) for vm in names}
    there = {vm: HostName(str(rng.choice(HOSTS))) for vm in names}
    free = {}
    for host in map(HostName, HOSTS):
        before = sum(units[vm] for vm in names if here[vm] == host)
        after = sum(units[vm] for vm in names if there[vm] == host)
        free[host] = sized(max(before, after) - before + int(rng.integers(0, slack + 1)))
    moves = tuple(
        a_move(
            vm,
            here[vm],
            there[vm],
            units=units[vm],
            seconds=float(rng.integers(1, 20)),
            unit=f"g{n % 3}" if n % 2 else "",
            urgency=(float(n % 4 == 3), float(rng.integers(0, 2))),
            ends_within=float(rng.integers(5, 60)) if deadlines and n % 4 == 0 else float("inf"),
        )
        for n, vm in enumerate(names)
        if here[vm] != there[vm]
    )
    rules = []
    if spreads and count > 2 and draw(st.booleans()):
        members = frozenset(names[: int(rng.integers(2, count + 1))])
        rules.append(AlwaysSpread(vms=members, minimum=int(rng.integers(2, 4))))
    return MovingDay(
        moves=moves,
        terms=Terms(
            free=free,
            cloud_of={vm: cloud(host) for vm, host in here.items()},
            spreads=tuple(rules),
            moves_per_link=draw(st.integers(1, 2)),
            moves_per_host=draw(st.sampled_from([None, 1, 3])),
            berths=berths_on(HOSTS),
            chatter=Chatter(
                talks=tuple(
                    Talk(one=one, other=other, bytes_per_second=(1e6, float(rng.integers(0, 2))))
                    for one, other in zip(names, names[2:], strict=False)
                ),
                dollars_per_byte=dict.fromkeys(
                    product(map(CloudName, "abcd"), repeat=2), draw(st.sampled_from([0.0, 1e-9]))
                ),
            ),
        ),
        host_of=here,
        needs={vm: sized(units[vm]) for vm in names},
    )


def as_plan(legs: Sequence[Leg], *, kind: MoveKind | None = None) -> Plan:
    """Return the legs as a plan; moves of the first rank are mandatory, unless all are to be of a kind."""
    return Plan(
        id=PlanId("p"),
        made_at=NOW,
        made_from_version=1,
        policies=("one",),
        trigger="a test",
        steps=tuple(_step(n, leg, kind) for n, leg in enumerate(legs)),
        before=CostRate(),
        after=CostRate(),
        horizon_seconds=3600.0,
        optimal=True,
    )


def _step(number: int, leg: Leg, kind: MoveKind | None) -> Step:
    move = leg.move
    return Step(
        id=StepId(f"s{number}"),
        vm=move.vm,
        source=move.source,
        destination=move.destination,
        source_cloud=move.source_cloud,
        destination_cloud=move.destination_cloud,
        kind=kind or (MoveKind.ELECTIVE if move.rank else MoveKind.MANDATORY),
        reason="a test",
        prediction=Prediction(
            bytes=1, seconds=leg.end - leg.start, downtime_seconds=0.0, dollars=0.0
        ),
        saving_dollars_per_hour=0.0,
        payback_seconds=None,
        stage=leg.stage,
        group=GroupId(move.unit) if move.unit.startswith("g") else None,
        after=tuple(StepId(f"s{n}") for n in leg.after),
        relies_on=tuple(StepId(f"s{n}") for n in leg.relies_on),
        starts_after_seconds=leg.start,
    )


def used(there: Mapping[VmName, set[HostName]], day: MovingDay) -> dict[HostName, Resources]:
    """Return what each host has to hold beside what it held at first, VMs on their way at both ends."""
    load = dict.fromkeys(day.terms.free, NOTHING)
    for vm, hosts in there.items():
        for host in hosts:
            load[host] += day.needs[vm]
    for vm, host in day.host_of.items():
        load[host] -= day.needs[vm]
    return load


def assert_sound(day: MovingDay, legs: Sequence[Leg]) -> None:
    """Assert that legs pass the checkers of plans, and keep what links, hosts and deadlines ask for."""
    steps = as_plan(legs).steps
    sure = sure_before(steps)
    assert list(misordered(steps)) == []
    assert list(overfull(steps, sure, day.terms.free, day.needs)) == []
    for rule in day.terms.spreads:
        wanted = min(rule.minimum, len({day.terms.cloud_of[vm] for vm in rule.vms}))
        for number, step in enumerate(steps):
            if step.vm in rule.vms:
                breadth = least_breadth(number, steps, sure, sorted(rule.vms), day.terms.cloud_of)
                assert breadth >= wanted
    for leg in legs:
        beside = [other.move for other in legs if other.start <= leg.start < other.end]
        assert sum(m.link == leg.move.link for m in beside) <= day.terms.moves_per_link
        for host in (leg.move.source, leg.move.destination):
            busy = sum(host in (m.source, m.destination) for m in beside)
            assert day.terms.moves_per_host is None or busy <= day.terms.moves_per_host
        assert leg.end <= leg.move.ends_within + 1e-6
