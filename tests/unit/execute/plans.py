"""Plans and simulated clouds for the tests of the executor."""

from datetime import UTC, datetime

from transhume.knowledge.model import (
    Cloud,
    CloudName,
    CostRate,
    GroupId,
    Host,
    HostName,
    Interface,
    MacAddress,
    MoveKind,
    Plan,
    PlanId,
    Prediction,
    Resources,
    Step,
    StepId,
    Vm,
    VmName,
)
from transhume.lab.simulated import SimulatedClouds, SimulatedHost

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1 << 20


def clouds(vms: int = 3, room: int = 8) -> SimulatedClouds:
    """Two clouds of one host each; every VM starts in a."""
    names = [VmName(f"vm{number}") for number in range(1, vms + 1)]
    return SimulatedClouds(
        hosts={
            HostName(f"{cloud}1"): SimulatedHost(
                host=Host(name=HostName(f"{cloud}1"), cloud=Cloud(name=CloudName(cloud)).name),
                capacity=Resources(vcpus=room, memory_bytes=room * 96 * MIB),
            )
            for cloud in ("a", "b")
        },
        vms={
            name: Vm(
                name=name,
                uuid=name,
                needs=Resources(vcpus=1, memory_bytes=96 * MIB),
                interfaces=(Interface(mac=MacAddress(f"52:54:00:00:00:0{name[-1]}")),),
            )
            for name in names
        },
        link_bytes_per_second=100 * MIB,
        speedup=1000.0,
        running_at=dict.fromkeys(names, HostName("a1")),
    )


def step(number: int, *, stage: int = 0, group: str | None = "g1", mandatory: bool = False) -> Step:
    """The move of one VM from a to b."""
    return Step(
        id=StepId(f"s{number}"),
        vm=VmName(f"vm{number}"),
        source=HostName("a1"),
        destination=HostName("b1"),
        source_cloud=CloudName("a"),
        destination_cloud=CloudName("b"),
        kind=MoveKind.MANDATORY if mandatory else MoveKind.ELECTIVE,
        reason="cheaper",
        prediction=Prediction(bytes=72 * MIB, seconds=0.7, downtime_seconds=0.1, dollars=0.0),
        saving_dollars_per_hour=0.1,
        payback_seconds=1.0,
        stage=stage,
        group=GroupId(group) if group else None,
    )


def plan(*steps: Step) -> Plan:
    """A plan of these steps."""
    return Plan(
        id=PlanId("p1"),
        made_at=NOW,
        made_from_version=1,
        policies=("cheap",),
        trigger="price",
        steps=steps,
        before=CostRate(compute=1.0),
        after=CostRate(compute=0.5),
        horizon_seconds=3600.0,
        optimal=True,
    )
