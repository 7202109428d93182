"""Where each address is, as one site knows it: a state machine, events in and instructions out.

Owns who may claim an address and when frames are sent on; does nothing itself (`service` does). The newest move
wins, by its sequence number, in whatever order messages come:

- a VM whose move was announced stops: its address goes to the destination at once, `moving`, and what still
  comes for it here is sent on until every site has followed;
- it runs there: the destination makes the binding `settled`;
- it runs here again (that stop was a pause, or the migration failed): it's claimed back;
- a frame of it is seen at a local port without any announcement: this site asks its hypervisors, and claims it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from transhume.execute.overlay.agent.events import (
    Acknowledge,
    Applied,
    Apply,
    Awaited,
    Began,
    Event,
    Instruction,
    Leaving,
    Look,
    Looked,
    Offer,
    Read,
    Runs,
    Sighted,
    Stopped,
    Ticked,
    Told,
)
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import (
    Binding,
    BindingState,
    Interface,
    IpAddress,
    MacAddress,
    SiteName,
)
from transhume.knowledge.register import Entry, Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long an agent waits for what."""

    confirm_seconds: float = 5.0
    """For a VM that has stopped to run elsewhere, before the hypervisor here is asked once more."""
    offer_seconds: float = 1.0
    """For the register to have taken what was offered, before it's offered again."""
    linger_seconds: float = 1.0
    """Frames are sent on at least so long."""
    moves: int = 5
    """So many moves that nobody asked for ..."""
    window_seconds: float = 180.0
    """... within so long are too many (RFC 7432, section 15.1)."""


@dataclass(slots=True)
class Detour:
    """An address that has left, whose frames are still sent on."""

    since: float
    revision: int | None = None
    """At which the register took it; None: not yet."""


@dataclass(slots=True)
class Offered:
    """A binding that the register hasn't taken yet."""

    binding: Binding
    at: float


class SiteAddresses:
    """One site's view of one virtual network.

    Args:
        site: this one.
        vni: the network.
        vteps: the tunnels' ends at all sites.
        timing: how long it waits for what.
    """

    def __init__(
        self,
        site: SiteName,
        vni: int,
        vteps: Mapping[SiteName, IpAddress],
        timing: Timing = Timing(),
    ) -> None:
        self.site = site
        self.vni = vni
        self._vteps = vteps
        self._timing = timing
        self.known: dict[MacAddress, Binding] = {}
        self.detours: dict[MacAddress, Detour] = {}
        self._devices: dict[MacAddress, str] = {}
        self._revision = 0
        self._offered: dict[MacAddress, Offered] = {}
        self._leaving: Mapping[MacAddress, SiteName] = {}
        self._claims: dict[MacAddress, list[float]] = {}
        """When addresses were claimed without anybody having announced it."""
        self._looking: dict[MacAddress, float] = {}

    @property
    def sites(self) -> tuple[SiteName, ...]:
        """All of the network's."""
        return tuple(self._vteps)

    def check_invariants(self) -> None:
        """Raise when the state contradicts itself; tests call it after every event."""
        for mac in self.detours:
            if mac not in self.known or self.known[mac].site == self.site:
                raise AssertionError(f"{mac} is sent on though it's here, or nowhere")
        for mac, offered in self._offered.items():
            if self.known.get(mac) != offered.binding:
                raise AssertionError(f"{mac} is offered otherwise than it's known")

    def wanted(self) -> dict[MacAddress, Route]:
        """Return all that the kernel should do."""
        return {mac: self._route(mac) for mac in self.known}

    def damped(self, now: float) -> tuple[MacAddress, ...]:
        """Return the addresses that have moved too often by themselves."""
        return tuple(mac for mac in self._claims if self._is_damped(mac, now))

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take what has happened, at a monotonic time, and return what to do next, in order."""
        match event:
            case Began(routes=routes):
                return self._begin(routes, now)
            case Read(whole=whole):
                return self._read(whole, now)
            case Told(entry=entry):
                self._revision = max(self._revision, entry.revision)
                changed = [entry.binding.mac] if self._learn(entry, now) else []
                return [*self._apply(changed), Acknowledge(revision=self._revision)]
            case Leaving(destination_of=destination_of):
                self._leaving = destination_of
                return []
            case Stopped(interfaces=interfaces):
                return self._stopped(interfaces, now)
            case Runs(interfaces=interfaces):
                return self._runs(interfaces, now)
            case Awaited(interfaces=interfaces):
                return self._apply(mac for mac in self._note(interfaces) if self._is_here(mac))
            case Sighted(mac=mac, device=device):
                return self._sighted(mac, device, now)
            case Looked(mac=mac, interface=interface):
                return self._looked(mac, interface, now)
            case Applied(revision=revision):
                return self._end_detours(revision, now)
            case Ticked():
                return self._ticked(now)
            case _:
                assert_never(event)

    # --- what the register says --------------------------------------------------------------------

    def _begin(self, routes: Mapping[MacAddress, Route], now: float) -> list[Instruction]:
        """Go on sending on what an earlier agent of this site did."""
        site_at = {vtep: site for site, vtep in self._vteps.items()}
        for mac, route in routes.items():
            if route.detour and route.vtep in site_at:
                # Of a rank below everything: whatever the register says of it holds.
                self.known[mac] = Binding(
                    vni=self.vni, mac=mac, site=site_at[route.vtep], sequence=0, ips=route.ips
                )
                self.detours[mac] = Detour(now)
        return []

    def _read(self, whole: Whole, now: float) -> list[Instruction]:
        lost = whole.revision < self._revision
        self._revision = whole.revision
        changed = [entry.binding.mac for entry in whole.entries if self._learn(entry, now)]
        listed = whole.bindings
        missing = self.known.keys() - listed.keys()
        # A knowledge that has lost its memory is told again: each site has what is with it.
        retired = set() if lost else missing - self._offered.keys()
        for mac in retired:
            self._forget(mac)
        newer = [
            binding
            for mac, binding in self.known.items()
            if (self._is_here(mac) or mac in self._offered) and binding.supersedes(listed.get(mac))
        ]
        gone = tuple(Route(mac=mac, vtep=None) for mac in sorted(retired))
        return [
            *self._apply(changed, *gone),
            *self._offer(newer, now),
            Acknowledge(revision=self._revision),
        ]

    def _learn(self, entry: Entry, now: float) -> bool:
        """Take a binding where it's newer than what is known; say whether the kernel has to follow."""
        new, mac = entry.binding, entry.binding.mac
        known = self.known.get(mac)
        if mac in self._offered and not self._offered[mac].binding.supersedes(new):
            del self._offered[mac]
        if mac in self.detours and known == new:
            self.detours[mac].revision = entry.revision
        if not new.supersedes(known):
            return False
        self.known[mac] = new
        if new.site == self.site:
            self.detours.pop(mac, None)
        elif known is not None and known.site == self.site:
            self.detours[mac] = Detour(now, entry.revision)
        elif mac in self.detours:
            self.detours[mac].revision = entry.revision
        elif new.origin == self.site and new.state is BindingState.MOVING:
            self.detours[mac] = Detour(now, entry.revision)
        return True

    def _forget(self, mac: MacAddress) -> None:
        del self.known[mac]
        for kept in (self.detours, self._devices, self._claims, self._looking):
            kept.pop(mac, None)

    # --- what happens here -------------------------------------------------------------------------

    def _stopped(self, interfaces: Iterable[Interface], now: float) -> list[Instruction]:
        going = [
            each.mac for each in interfaces if each.mac in self._leaving and self._is_here(each.mac)
        ]
        moved = [
            replace(
                self.known[mac],
                sequence=self.known[mac].sequence + 1,
                site=self._leaving[mac],
                state=BindingState.MOVING,
                origin=self.site,
            )
            for mac in going
        ]
        for binding in moved:
            self.detours[binding.mac] = Detour(now)
        return self._change(moved, now)

    def _runs(self, interfaces: Iterable[Interface], now: float) -> list[Instruction]:
        claimed = []
        for each in interfaces:
            known = self.known.get(each.mac)
            if known is None:
                claimed.append(self._first(each))
            elif known.site != self.site or known.state is BindingState.MOVING:
                claimed.append(self._claim(known, each.ips))
        moved = self._note(interfaces)
        instructions = self._change(claimed, now)
        rest = [m for m in moved if self._is_here(m) and m not in {c.mac for c in claimed}]
        return [*instructions, *self._apply(rest)]

    def _sighted(self, mac: MacAddress, device: str, now: float) -> list[Instruction]:
        known = self.known.get(mac)
        if known is None:
            return []
        if known.site == self.site:
            settled = known.state is BindingState.SETTLED
            return [] if settled else self._change([self._claim(known)], now)
        if mac in self._looking or self._is_damped(mac, now):
            return []
        self._looking[mac] = now
        return [Look(mac=mac, device=device)]

    def _looked(
        self, mac: MacAddress, interface: Interface | None, now: float
    ) -> list[Instruction]:
        self._looking.pop(mac, None)
        known = self.known.get(mac)
        if interface is None or known is None or known.site == self.site:
            return []
        if (
            known.state is BindingState.SETTLED
        ):  # nobody has announced that it would come, or come back
            self._claims[mac] = [*self._recent_claims(mac, now), now]
        self._note([interface])
        return self._change([self._claim(known, interface.ips)], now)

    def _first(self, interface: Interface) -> Binding:
        return Binding(
            vni=self.vni, mac=interface.mac, site=self.site, sequence=1, ips=interface.ips
        )

    def _claim(self, known: Binding, ips: tuple[IpAddress, ...] = ()) -> Binding:
        """Return the binding that says that an address is here: a move of its own, or the end of one."""
        came = known.site != self.site
        return replace(
            known,
            site=self.site,
            sequence=known.sequence + came,
            state=BindingState.SETTLED,
            origin=None,
            ips=known.ips or ips,
        )

    def _is_damped(self, mac: MacAddress, now: float) -> bool:
        return len(self._recent_claims(mac, now)) >= self._timing.moves

    def _recent_claims(self, mac: MacAddress, now: float) -> list[float]:
        window = self._timing.window_seconds
        return [at for at in self._claims.get(mac, ()) if now - at < window]

    # --- time ----------------------------------------------------------------------------------------

    def _end_detours(self, revision: int, now: float) -> list[Instruction]:
        over = [
            mac
            for mac, detour in self.detours.items()
            if detour.revision is not None
            and detour.revision <= revision
            and now - detour.since >= self._timing.linger_seconds
            and self.known[mac].state is BindingState.SETTLED
        ]
        for mac in over:
            del self.detours[mac]
        return self._apply(over)

    def _ticked(self, now: float) -> list[Instruction]:
        timing = self._timing
        late = [
            offered.binding
            for offered in self._offered.values()
            if now - offered.at >= timing.offer_seconds
        ]
        instructions = self._offer(late, now)
        for mac, detour in self.detours.items():
            asked = self._looking.get(mac, detour.since)
            moving = self.known[mac].state is BindingState.MOVING
            if moving and now - asked >= timing.confirm_seconds:
                self._looking[mac] = now
                instructions.append(Look(mac=mac))
        return instructions

    # --- how it is said --------------------------------------------------------------------------------

    def _change(self, bindings: list[Binding], now: float) -> list[Instruction]:
        """Let the kernel follow first: others may take longer to hear of it."""
        for binding in bindings:
            self.known[binding.mac] = binding
            if binding.site == self.site:
                self.detours.pop(binding.mac, None)
        return [*self._apply(b.mac for b in bindings), *self._offer(bindings, now)]

    def _apply(self, macs: Iterable[MacAddress], *others: Route) -> list[Instruction]:
        routes = (*map(self._route, macs), *others)
        return [Apply(routes=routes)] if routes else []

    def _offer(self, bindings: list[Binding], now: float) -> list[Instruction]:
        for binding in bindings:
            self._offered[binding.mac] = Offered(binding, now)
        return [Offer(bindings=tuple(bindings))] if bindings else []

    def _note(self, interfaces: Iterable[Interface]) -> list[MacAddress]:
        """Remember behind which ports addresses are; return those of which that is new."""
        new = [
            each
            for each in interfaces
            if each.device and self._devices.get(each.mac) != each.device
        ]
        self._devices |= {each.mac: each.device for each in new}
        return [each.mac for each in new]

    def _is_here(self, mac: MacAddress) -> bool:
        return mac in self.known and self.known[mac].site == self.site

    def _route(self, mac: MacAddress) -> Route:
        binding = self.known[mac]
        if binding.site == self.site:
            return Route(mac=mac, vtep=None, ips=binding.ips, device=self._devices.get(mac, ""))
        vtep = self._vteps.get(binding.site)
        return Route(mac=mac, vtep=vtep, ips=binding.ips, detour=mac in self.detours)
