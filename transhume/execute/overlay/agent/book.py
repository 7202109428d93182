"""What one site knows of addresses: where each is, behind which port here, and which are still sent on. Pure.

Answers questions, and keeps its parts in step. Which news hold, and what follows, is decided by who writes into
it (`site`).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from transhume.execute.overlay.agent.owners import Owners
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import (
    Binding,
    BindingState,
    Interface,
    IpAddress,
    MacAddress,
    SiteName,
)


@dataclass(slots=True)
class Detour:
    """An address that has left, whose frames are still sent on."""

    since: float
    revision: int | None = None
    """At which the register took it; None: not yet."""
    asked: float = float("-inf")
    """When the hypervisor here was last asked whether it's here after all."""


class AddressBook:
    """The addresses of one virtual network, as one site sees them.

    Args:
        site: this one.
        vteps: the tunnels' ends at all sites.
    """

    def __init__(self, site: SiteName, vteps: Mapping[SiteName, IpAddress]) -> None:
        self._site = site
        self._vteps = vteps
        self._devices: dict[MacAddress, str] = {}
        self._owners = Owners()
        self.known: dict[MacAddress, Binding] = {}
        self.detours: dict[MacAddress, Detour] = {}

    @property
    def bound(self) -> tuple[Binding, ...]:
        """What is known of the addresses that are anywhere."""
        return tuple(each for each in self.known.values() if each.state is not BindingState.GONE)

    def check_invariants(self) -> None:
        """Raise when it contradicts itself."""
        for mac in self.detours:
            if mac not in self.known or self.known[mac].site == self._site or self.is_gone(mac):
                raise AssertionError(f"{mac} is sent on though it's here, or nowhere")

    # --- questions -----------------------------------------------------------------------------------

    def is_here(self, mac: MacAddress) -> bool:
        """Say whether an address is here, or about to be."""
        known = self.known.get(mac)
        return known is not None and known.site == self._site and not self.is_gone(mac)

    def is_elsewhere(self, mac: MacAddress) -> bool:
        """Say whether an address is known, and isn't here."""
        return mac in self.known and not self.is_here(mac)

    def is_gone(self, mac: MacAddress) -> bool:
        """Say whether an address that is known is nowhere any more."""
        return self.known[mac].state is BindingState.GONE

    def has_settled(self, mac: MacAddress) -> bool:
        """Say whether an address is here, and not on its way."""
        return mac in self.known and self.settles_here(self.known[mac])

    def settles_here(self, binding: Binding) -> bool:
        """Say whether a binding says that its address is here, and not on its way."""
        return binding.site == self._site and binding.state is BindingState.SETTLED

    def device(self, mac: MacAddress) -> str:
        """Return the port here that an address was last seen behind; empty: none."""
        return self._devices.get(mac, "")

    def site_at(self, vtep: IpAddress | None) -> SiteName | None:
        """Return the site whose tunnels end there."""
        return next((site for site, end in self._vteps.items() if end == vtep), None)

    def begun_anew(self, listed: Mapping[MacAddress, Binding]) -> list[MacAddress]:
        """Return what others have that is listed with a lower rank: it was retired, and has begun anew."""
        return [
            mac
            for mac, binding in listed.items()
            if (known := self.known.get(mac)) is not None
            and (known.site != self._site or (self.is_gone(mac) and binding.site != self._site))
            and known.supersedes(binding)
        ]

    def route(self, mac: MacAddress) -> Route:
        """Return what the kernel should do with an address."""
        binding = self.known[mac]
        if binding.state is BindingState.GONE:
            return Route(mac=mac, vtep=None)
        ips = self._owners.owned(binding)
        if binding.site == self._site:
            return Route(mac=mac, vtep=None, ips=ips, device=self.device(mac))
        vtep = self._vteps.get(binding.site)
        return Route(mac=mac, vtep=vtep, ips=ips, detour=mac in self.detours)

    # --- entries -------------------------------------------------------------------------------------

    def enter(self, binding: Binding, revision: float) -> None:
        """Take a binding, in place of an earlier one, and the revision at which the register took it."""
        self.known[binding.mac] = binding
        self.confirm(binding, revision)
        if binding.state is BindingState.GONE:
            self.let_go(binding.mac)
        elif binding.site == self._site:
            self.detours.pop(binding.mac, None)

    def confirm(self, binding: Binding, revision: float) -> None:
        """Note at which revision the register took a binding that is known."""
        self._owners.enter(binding, revision)

    def note(self, interfaces: Iterable[Interface], *, run: bool = True) -> list[MacAddress]:
        """Remember behind which ports addresses are; return those of which that is new.

        Who runs behind none of this machine's has left the one that it had. Who waits may have none yet.
        """
        new = {
            each.mac: each.device
            for each in interfaces
            if (run or each.device) and self.device(each.mac) != each.device
        }
        self._devices |= new
        return list(new)

    def take_rivals(self) -> frozenset[MacAddress]:
        """Return those whose IP addresses may have become others' since the last time, or others' theirs."""
        return self._owners.take_rivals()

    def outlive(self, listed: Collection[MacAddress], offered: Collection[MacAddress]) -> None:
        """Keep all that the register has lost.

        What others have holds until anybody tells of it: who has it may have begun anew, and count from one.
        """
        for mac, binding in self.known.items():
            if binding.site != self._site and mac not in offered and mac not in listed:
                self.known[mac] = replace(binding, sequence=0)
            self.confirm(self.known[mac], revision=0)

    def let_go(self, mac: MacAddress) -> None:
        """Forget where an address was here, and that it's sent on."""
        self.detours.pop(mac, None)
        self._devices.pop(mac, None)

    def forget(self, mac: MacAddress) -> None:
        """Know nothing of an address any more."""
        del self.known[mac]
        self._owners.forget(mac)
        self.let_go(mac)
