"""Whether what sites, hypervisors and the register say fits together."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from transhume.errors import UsageError
from transhume.execute.overlay.tracing import OverlayView, inconsistencies, trace_between
from transhume.knowledge.model import (
    AgentStatus,
    Binding,
    BindingState,
    Cloud,
    CloudName,
    Host,
    HostName,
    Interface,
    MacAddress,
    Placement,
    Resources,
    SiteName,
    Snapshot,
    Vm,
    VmName,
)

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
A, B = SiteName("a"), SiteName("b")
MACS = {n: MacAddress(f"52:54:00:00:00:0{n}") for n in (1, 2)}
TERMS = "of today"
VTEPS = {"a": "192.0.2.1", "b": "192.0.2.2"}


def snapshot() -> Snapshot:
    """Return two clouds, with vm1 at a1 and vm2 at b1."""
    clouds = {CloudName(n): Cloud(name=CloudName(n)) for n in "ab"}
    hosts = {HostName(f"{n}1"): Host(name=HostName(f"{n}1"), cloud=CloudName(n)) for n in "ab"}
    vms = {
        VmName(f"vm{n}"): Vm(
            name=VmName(f"vm{n}"),
            uuid=str(n),
            needs=Resources(vcpus=1, memory_bytes=1),
            interfaces=(Interface(mac=mac),),
        )
        for n, mac in MACS.items()
    }
    host_of = {VmName("vm1"): HostName("a1"), VmName("vm2"): HostName("b1")}
    return Snapshot(
        version=1,
        at=NOON,
        clouds=clouds,
        hosts=hosts,
        vms=vms,
        placement=Placement(host_of=host_of),
    )


def register(**changed: object) -> OverlayView:
    """Return one in which all is as it should be."""
    sites = {MACS[1]: A, MACS[2]: B}
    well = OverlayView(
        revision=2,
        bindings={
            mac: Binding(vni=66, mac=mac, site=site, sequence=1) for mac, site in sites.items()
        },
        agents={
            site: AgentStatus(site=site, vni=66, at=NOON, holder="h:1", applied=2, terms=TERMS)
            for site in (A, B)
        },
    )
    return replace(well, **changed)  # type: ignore[arg-type]


def status(site: SiteName, **changed: object) -> dict[SiteName, AgentStatus]:
    agents = dict(register().agents)
    agents[site] = replace(agents[site], **changed)  # type: ignore[arg-type]
    return agents


def faults(found: OverlayView, now: datetime = NOON) -> tuple[str, ...]:
    return inconsistencies(["a", "b"], found, snapshot(), now, TERMS)


def test_nothing_is_said_where_all_fits() -> None:
    assert faults(register()) == ()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (register(agents={A: register().agents[A]}), "b: no agent has ever answered"),
        (register(agents=status(B, at=NOON - timedelta(minutes=1))), "b: its agent was last heard"),
        (register(agents=status(B, applied=1)), "b: its agent is at revision 1 of 2"),
        (register(agents=status(A, faults=("it hurts",))), "a: it hurts"),
        (
            register(agents=status(A, terms="of yesterday")),
            "a: its agent began with another deployment file",
        ),
        (register(agents=status(A, damped=(MACS[1],))), "moves by itself too often"),
        (register(bindings={MACS[1]: register().bindings[MACS[1]]}), "the register doesn't know"),
        (
            register(
                bindings=register().bindings
                | {MACS[2]: Binding(vni=66, mac=MACS[2], site=A, sequence=2)}
            ),
            "vm2 (52:54:00:00:00:02) runs at b, and is bound to a",
        ),
        (
            register(
                bindings=register().bindings
                | {
                    MACS[2]: Binding(
                        vni=66,
                        mac=MACS[2],
                        site=B,
                        sequence=2,
                        state=BindingState.MOVING,
                        origin=A,
                    )
                }
            ),
            "has left a and hasn't arrived at b",
        ),
    ],
    ids=[
        "no-agent",
        "silent",
        "late",
        "fault",
        "another-file",
        "damped",
        "unknown",
        "elsewhere",
        "moving",
    ],
)
def test_each_inconsistency_is_one_line(found: OverlayView, said: str) -> None:
    (line,) = faults(found)
    assert said in line


def test_an_agent_that_says_nothing_of_its_file_isnt_suspected() -> None:
    """An earlier version's."""
    assert faults(register(agents=status(A, terms=""))) == ()


def test_a_site_that_is_in_the_file_no_more_has_no_troubles() -> None:
    """What its agent said last would be told for ever."""
    gone = AgentStatus(
        site=SiteName("gone"), vni=66, at=NOON, holder="h:1", applied=0, faults=("it hurts",)
    )
    assert faults(register(agents=register().agents | {gone.site: gone})) == ()


def test_a_trace_names_both_bridges_and_the_tunnel() -> None:
    there = trace_between("vm1", "vm2", register(), snapshot(), VTEPS)
    assert str(there) == "vm1 -> vm2: the bridge of a, a tunnel to 192.0.2.2, the bridge of b"


def test_a_trace_within_a_site_has_no_tunnel() -> None:
    both = register().bindings | {MACS[2]: Binding(vni=66, mac=MACS[2], site=A, sequence=2)}
    there = trace_between("vm1", "vm2", register(bindings=both), snapshot(), VTEPS)
    assert there.vtep is None


def test_a_trace_tells_who_sends_on() -> None:
    found = register(agents=status(A, detours=(MACS[2],)))
    there = trace_between("vm1", "vm2", found, snapshot(), VTEPS)
    assert there.notes == ("a sends on what still comes for vm2 there",)


def test_a_trace_to_nobody_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="no VM vm9 is known; there are: vm1, vm2"):
        trace_between("vm1", "vm9", register(), snapshot(), VTEPS)
