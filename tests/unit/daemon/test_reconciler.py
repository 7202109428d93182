"""The overlay follows the VMs, also when somebody else moves them, and never one on its way."""

from datetime import UTC, datetime

from transhume.daemon.composition import Reconciler
from transhume.knowledge.model import (
    CloudName,
    Host,
    HostName,
    Interface,
    MacAddress,
    Placement,
    Resources,
    Snapshot,
    Vm,
    VmName,
)
from transhume.lab.simulated import SimulatedOverlay

MAC = MacAddress("52:54:00:00:00:01")
VM = VmName("vm1")


def snapshot(host: str, *, moving: bool = False) -> Snapshot:
    return Snapshot(
        version=1,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        hosts={HostName(f"{c}1"): Host(name=HostName(f"{c}1"), cloud=CloudName(c)) for c in "ab"},
        vms={
            VM: Vm(
                name=VM,
                uuid="u",
                needs=Resources(vcpus=1, memory_bytes=1),
                interfaces=(Interface(mac=MAC),),
            )
        },
        placement=Placement(host_of={VM: HostName(host)}),
        moving=frozenset((VM,)) if moving else frozenset(),
    )


async def test_a_vm_that_somebody_else_moved_is_followed() -> None:
    overlay = SimulatedOverlay()
    reconcile = Reconciler(lambda _vm: overlay)
    await reconcile(snapshot("a1"))
    assert overlay.site_of == {MAC: "a"}
    await reconcile(snapshot("b1"))
    assert overlay.site_of == {MAC: "b"}


async def test_a_vm_on_its_way_is_left_to_the_executor_and_looked_at_again_afterwards() -> None:
    overlay = SimulatedOverlay()
    reconcile = Reconciler(lambda _vm: overlay)
    await reconcile(snapshot("a1"))
    overlay.site_of[MAC] = "elsewhere"
    await reconcile(snapshot("a1", moving=True))
    assert overlay.site_of == {MAC: "elsewhere"}
    await reconcile(snapshot("a1"))
    assert overlay.site_of == {MAC: "a"}
