"""Which VMs' taps are to be at hand at a site: of those about to leave it, and of those about to come. Pure.

The first are emptied once their VMs have stopped. The others take in what is sent on before the register's
word is here: it can be the faster of the two.
"""

from collections.abc import Callable, Iterable

from transhume.execute.overlay.agent.events import Expect, Hold, Instruction, SendOn
from transhume.knowledge.model import Interface, MacAddress


class Taps:
    """What was said of taps, and what follows from it; instructions only where that has changed."""

    def __init__(self) -> None:
        self.held: dict[MacAddress, str] = {}
        """Of VMs that are here and about to leave."""
        self.arriving: frozenset[MacAddress] = frozenset()
        """Addresses that are announced to come."""
        self._awaited: dict[MacAddress, str] = {}
        """Of these, the taps at which their state arrives."""
        self._expected: dict[MacAddress, str] = {}

    def hold(self, wanted: dict[MacAddress, str]) -> list[Instruction]:
        """Have these at hand, and no others."""
        if wanted == self.held:
            return []
        self.held = wanted
        return [Hold(devices=wanted)]

    def send_on(self, going: Iterable[MacAddress]) -> list[Instruction]:
        """Empty those of VMs that have stopped."""
        waiting = tuple(mac for mac in going if self.held.pop(mac, None))
        return [SendOn(macs=waiting)] if waiting else []

    def wait_at(self, interfaces: Iterable[Interface]) -> None:
        """Note where VMs' state begins to arrive."""
        self._awaited |= {each.mac: each.device for each in interfaces if each.device}

    def expect(self, is_elsewhere: Callable[[MacAddress], bool]) -> list[Instruction]:
        """Be ready for the VMs that are awaited; `is_elsewhere` says of which it's known."""
        self._awaited = {mac: tap for mac, tap in self._awaited.items() if mac in self.arriving}
        wanted = {mac: tap for mac, tap in self._awaited.items() if is_elsewhere(mac)}
        if wanted == self._expected:
            return []
        self._expected = wanted
        return [Expect(devices=wanted)]
