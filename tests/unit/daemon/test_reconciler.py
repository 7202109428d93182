"""The overlay follows the VMs, also when somebody else moves them, and never one on its way."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from transhume.daemon.composition import Reconciler
from transhume.errors import OverlayError
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


class Ailing(SimulatedOverlay):
    """An overlay that can't be told of one address."""

    async def adopt(self, macs: Iterable[MacAddress], site: str) -> None:
        """Refuse it."""
        if MAC in macs:
            raise OverlayError("there is no bridge")
        await self.bind(macs, site)


async def test_who_cannot_be_followed_hinders_nobody_else() -> None:
    others = [VmName(f"vm{number}") for number in range(2, 30)]
    seen = snapshot("a1")
    vms = {
        name: replace(seen.vms[VM], name=name, interfaces=(Interface(mac=MacAddress(name)),))
        for name in others
    }
    hosts = dict.fromkeys((VM, *others), HostName("a1"))
    overlay = Ailing()
    with pytest.raises(OverlayError, match="no bridge"):
        await Reconciler(lambda _vm: overlay)(
            replace(seen, vms=seen.vms | vms, placement=Placement(host_of=hosts))
        )
    assert overlay.site_of == dict.fromkeys(map(MacAddress, others), "a")


async def test_a_vm_that_was_away_is_looked_at_again() -> None:
    overlay = SimulatedOverlay()
    reconcile = Reconciler(lambda _vm: overlay)
    await reconcile(snapshot("a1"))
    await reconcile(replace(snapshot("a1"), vms={}, placement=Placement()))
    overlay.site_of[MAC] = "b"  # where another one had its address meanwhile
    await reconcile(snapshot("a1"))
    assert overlay.site_of == {MAC: "a"}
