"""How fast a VM writes to its memory: asked of a libvirt that answers as it does where a VM leaves."""

from typing import Any, cast

import libvirt
import pytest

from transhume.errors import DirtyRateUnknown
from transhume.execute.hypervisor import dirty_rate
from transhume.knowledge.model import HostName, VmName


class Libvirt:
    """A connection and its only domain, which is measured, or gone, when it's asked for statistics."""

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self._answers = list(answers)

    def lookupByName(self, _name: str) -> "Libvirt":  # noqa: N802
        return self

    def startDirtyRateCalc(self, _seconds: int, _flags: int) -> None:  # noqa: N802
        pass

    def domainListGetStats(  # noqa: N802
        self, domains: list["Libvirt"], _stats: int
    ) -> list[tuple["Libvirt", dict[str, Any]]]:
        answer = self._answers.pop(0)
        return [] if answer is None else [(domains[0], answer)]


UNDER_WAY = {"dirtyrate.calc_status": libvirt.VIR_DOMAIN_DIRTYRATE_MEASURING}
MEASURED = {
    "dirtyrate.calc_status": libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED,
    "dirtyrate.megabytes_per_second": 3,
}


def measured(*answers: dict[str, Any] | None) -> float:
    connection = cast("libvirt.virConnect", Libvirt(*answers))
    return dirty_rate.measure(connection, VmName("vm1"), HostName("a1"), 1)


def test_the_rate_is_told_in_bytes_once_it_is_known() -> None:
    assert measured(UNDER_WAY, MEASURED) == 3 << 20


def test_of_a_vm_that_leaves_while_it_is_sampled_nothing_is_known() -> None:
    """libvirt passes over domains that aren't active any more, without a word."""
    with pytest.raises(DirtyRateUnknown, match="it has left"):
        measured(UNDER_WAY, None)
