"""Where each address is, as one site knows it: a state machine, events in and instructions out.

Owns who may claim an address and when frames are sent on; does nothing itself (`service` does). The newest move
wins, by its sequence number, in whatever order messages come:

- a VM whose move was announced stops: its address goes to the destination at once, `moving`, and what still
  comes for it here is sent on until every site has followed, and what waits in its tap with it;
- one stops for a migration that nobody announced: what waits in its tap is sent on once it's known where to;
- it runs there: the destination makes the binding `settled`;
- it runs here again (that stop was a pause, or the migration failed): it's claimed back;
- it runs here without any announcement, or a frame of it is seen here and the hypervisors say so: it's claimed,
  but not too often, because two VMs may have one address;
- it runs here, and is known by other IP addresses than before: that's told as a move is;
- for a while no hypervisor here has had its VM: its address is `gone`. Its sequence remains, so that nothing
  older is believed when it starts anew; after an hour that goes too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from transhume.execute.overlay.agent.allowance import Allowance
from transhume.execute.overlay.agent.book import AddressBook, Detour
from transhume.execute.overlay.agent.events import (
    Acknowledge,
    Applied,
    Apply,
    Arriving,
    Awaited,
    Began,
    Event,
    Expect,
    Instruction,
    Leaving,
    Look,
    Looked,
    Offer,
    Present,
    Read,
    Retire,
    Runs,
    Sighted,
    Stopped,
    Ticked,
    Told,
)
from transhume.execute.overlay.agent.owners import OFFERED
from transhume.execute.overlay.agent.taps import Taps
from transhume.execute.overlay.agent.timing import Timing
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
        fixed: addresses that are here though no hypervisor has them.
        only_fixed: no others can be: the site has no hypervisors.
    """

    def __init__(
        self,
        site: SiteName,
        vni: int,
        vteps: Mapping[SiteName, IpAddress],
        timing: Timing = Timing(),  # noqa: B008  (frozen)
        fixed: frozenset[MacAddress] = frozenset(),
        *,
        only_fixed: bool = False,
    ) -> None:
        self.site = site
        self.vni = vni
        self.book = AddressBook(site, vteps)
        self.sites = tuple(vteps)
        """All of the network's."""
        self.timing = timing
        self._fixed = fixed
        self._to_clear = only_fixed
        """Whether what an earlier agent has left here has yet to be looked through."""
        self._revision = 0
        self._offered: dict[MacAddress, Offered] = {}
        self._leaving: Mapping[MacAddress, SiteName] = {}
        self._taps = Taps()
        self._migrating: set[MacAddress] = set()
        """Of VMs that have stopped here to run elsewhere, nobody has announced where."""
        self._claims = Allowance(timing.moves, timing.window_seconds)
        """Of addresses, without anybody having announced it."""
        self._renamings = Allowance(timing.moves, timing.window_seconds)
        """Of those that are here, by other IP addresses."""
        self._looking: dict[MacAddress, float] = {}
        self._missing: dict[MacAddress, float] = {}
        """Since when no hypervisor here has had the VMs of addresses that are here."""
        self._gone: dict[MacAddress, float] = {}
        """Since when addresses that were here last are known to be gone."""

    def check_invariants(self) -> None:
        """Raise when the state contradicts itself; tests call it after every event."""
        self.book.check_invariants()
        for mac in self._gone:
            if not self.book.is_gone(mac):
                raise AssertionError(
                    f"{mac} is to be forgotten though it's at {self.book.known[mac].site}"
                )
        for mac, offered in self._offered.items():
            if self.book.known.get(mac) != offered.binding:
                raise AssertionError(f"{mac} is offered otherwise than it's known")
        for mac in self._taps.held:
            if mac not in self._leaving and mac not in self._migrating:
                raise AssertionError(f"{mac}'s tap is held though it isn't about to leave")
        for mac in self._migrating:
            if not self.book.is_here(mac):
                raise AssertionError(f"{mac} has left, and its tap is still waited for")

    def wanted(self) -> dict[MacAddress, Route]:
        """Return all that the kernel should do."""
        return {mac: self.book.route(mac) for mac in self.book.known}

    def damped(self, now: float) -> tuple[MacAddress, ...]:
        """Return the addresses that have moved too often by themselves."""
        return self._claims.used_up(now)

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
                return [
                    *self._apply(changed),
                    *self._send_on(changed),
                    Acknowledge(revision=self._revision),
                ]
            case Leaving(destination_of=destination_of):
                self._leaving = destination_of
                return self._hold()
            case Arriving(macs=macs):
                self._taps.arriving = macs
                return self._taps.expect(self.book.is_elsewhere)
            case Stopped():
                return self._stopped(event, now)
            case Runs(interfaces=interfaces):
                return self._runs(interfaces, now)
            case Awaited(interfaces=interfaces):
                self._taps.wait_at(interfaces)
                # While it runs here, at another machine perhaps, its frames go to the tap that it has.
                arriving = [each for each in interfaces if not self.book.has_settled(each.mac)]
                new = self._note(arriving, run=False)
                noted = self._apply(mac for mac in new if self.book.is_here(mac))
                return [*noted, *self._taps.expect(self.book.is_elsewhere)]
            case Sighted(mac=mac, device=device):
                return self._sighted(mac, device, now)
            case Looked(mac=mac, interface=interface):
                return self._looked(mac, interface, now)
            case Present(macs=macs):
                return self._present(macs, now)
            case Applied():
                return self._end_detours(event, now)
            case Ticked():
                return self._ticked(now)
            case _:
                assert_never(event)

    # --- what the register says --------------------------------------------------------------------

    def _begin(self, routes: Mapping[MacAddress, Route], now: float) -> list[Instruction]:
        """Go on sending on what an earlier agent of this site did."""
        for mac, route in routes.items():
            site = self.book.site_at(route.vtep)
            if route.detour and site is not None:
                # Of a rank below everything: whatever the register says of it holds.
                known = Binding(vni=self.vni, mac=mac, site=site, sequence=0, ips=route.ips)
                self.book.enter(known, revision=0)
                self.book.detours[mac] = Detour(now)
        return [Expect(devices={})]  # what an earlier one expected is over, or will be said again

    def _read(self, whole: Whole, now: float) -> list[Instruction]:
        lost = whole.revision < self._revision
        self._revision = whole.revision
        listed = whole.bindings
        if lost:
            self.book.outlive(listed.keys(), self._offered.keys())
        else:
            for mac in self.book.begun_anew(listed):
                if mac not in self._offered:
                    self._forget(mac)
        changed = [entry.binding.mac for entry in whole.entries if self._learn(entry, now)]
        missing = self.book.known.keys() - listed.keys()
        # A knowledge that has lost its memory is told again: each site has what is with it.
        retired = set() if lost else missing - self._offered.keys()
        for mac in retired:
            self._forget(mac)
        newer = [
            binding
            for mac, binding in self.book.known.items()
            if (self._is_ours(mac, listed) or mac in self._offered)
            and binding.supersedes(listed.get(mac))
        ]
        gone = tuple(Route(mac=mac, vtep=None) for mac in sorted(retired))
        return [
            *self._apply(changed, *gone),
            *self._send_on(changed),
            *self._offer(newer, now),
            *self._change(self._left_over(), now),
            Acknowledge(revision=self._revision),
        ]

    def _left_over(self) -> list[Binding]:
        """Let settled addresses go, once, that are listed here no more and that no hypervisor would miss."""
        if not self._to_clear:
            return []
        self._to_clear = False
        return [
            replace(known, state=BindingState.GONE)
            for mac, known in self.book.known.items()
            if self.book.settles_here(known) and self._may_go(mac)
        ]

    def _learn(self, entry: Entry, now: float) -> bool:
        """Take a binding where it's newer than what is known; say whether the kernel has to follow."""
        new, mac = entry.binding, entry.binding.mac
        known = self.book.known.get(mac)
        if mac in self._offered and not self._offered[mac].binding.supersedes(new):
            del self._offered[mac]
        if mac in self.book.detours and known == new:
            self.book.detours[mac].revision = entry.revision
        if known == new:
            self.book.confirm(new, entry.revision)
        if not new.supersedes(known):
            return False
        self._enter(new, now, entry.revision)
        if new.site == self.site or self.book.is_gone(mac):
            return True
        if known is not None and known.site == self.site and known.state is not BindingState.GONE:
            self.book.detours[mac] = Detour(now, entry.revision)
        elif mac in self.book.detours:
            self.book.detours[mac].revision = entry.revision
        elif new.origin == self.site and new.state is BindingState.MOVING:
            self.book.detours[mac] = Detour(now, entry.revision)
        return True

    def _forget(self, mac: MacAddress) -> None:
        self.book.forget(mac)
        self._gone.pop(mac, None)
        self._let_go(mac)

    def _let_go(self, mac: MacAddress) -> None:
        self._migrating.discard(mac)
        for kept in (self._looking, self._missing):
            kept.pop(mac, None)
        for allowance in (self._claims, self._renamings):
            allowance.forget(mac)

    def _enter(self, binding: Binding, now: float, revision: float = OFFERED) -> None:
        mac = binding.mac
        self.book.enter(binding, revision)
        self._gone.pop(mac, None)
        if binding.state is BindingState.GONE:
            self._let_go(mac)
            if binding.site == self.site:
                self._gone[mac] = now

    def _is_ours(self, mac: MacAddress, listed: Mapping[MacAddress, Binding]) -> bool:
        """Say whether it's for us to tell of an address; that one is gone, only where it's listed otherwise."""
        return self.book.is_here(mac) or (self.book.known[mac].site == self.site and mac in listed)

    # --- what happens here -------------------------------------------------------------------------

    def _stopped(self, stopped: Stopped, now: float) -> list[Instruction]:
        here = [each.mac for each in stopped.interfaces if self.book.is_here(each.mac)]
        going = [mac for mac in here if mac in self._leaving]
        if stopped.migrates:
            self._migrating.update(here)
        self._migrating.difference_update(going)
        moved = [
            replace(
                self.book.known[mac],
                sequence=self.book.known[mac].sequence + 1,
                site=self._leaving[mac],
                state=BindingState.MOVING,
                origin=self.site,
            )
            for mac in going
        ]
        for binding in moved:
            self.book.detours[binding.mac] = Detour(now)
        return [*self._change(moved, now), *self._taps.send_on(going), *self._hold()]

    def _send_on(self, changed: Iterable[MacAddress]) -> list[Instruction]:
        """Send on what waits for VMs of which it's known only now where they have gone."""
        gone = [mac for mac in changed if mac in self._migrating and mac in self.book.detours]
        self._migrating.difference_update(gone)
        return [*self._taps.send_on(gone), *self._hold()]

    def _hold(self) -> list[Instruction]:
        wanted = {
            mac: self.book.device(mac)
            for mac in (*self._leaving, *self._migrating)
            if self.book.is_here(mac) and self.book.device(mac)
        }
        return self._taps.hold(wanted)

    def _runs(self, interfaces: Iterable[Interface], now: float) -> list[Instruction]:
        claimed = []
        for each in interfaces:
            known = self.book.known.get(each.mac)
            if known is None:
                claimed.append(self._first(each))
            elif self._is_news(known, each.ips) and self._may_claim(known, now):
                claimed.append(self._claim(known, each.ips))
        moved = self._note(interfaces)
        instructions = self._change(claimed, now)
        rest = [m for m in moved if self.book.is_here(m) and m not in {c.mac for c in claimed}]
        stays = self._migrating & {each.mac for each in interfaces}
        self._migrating -= stays
        return [*instructions, *self._apply(rest), *(self._hold() if stays else [])]

    def _sighted(self, mac: MacAddress, device: str, now: float) -> list[Instruction]:
        known = self.book.known.get(mac)
        if known is None:
            return []
        if self.book.is_here(mac):
            settled = known.state is BindingState.SETTLED
            return [] if settled else self._change([self._claim(known)], now)
        if mac in self._looking or self._claims.is_used_up(mac, now):
            return []
        self._looking[mac] = now
        return [Look(mac=mac, device=device)]

    def _looked(
        self, mac: MacAddress, interface: Interface | None, now: float
    ) -> list[Instruction]:
        self._looking.pop(mac, None)
        known = self.book.known.get(mac)
        if interface is None or known is None or self.book.is_here(mac):
            return []
        self._note([interface])
        claimed = [self._claim(known, interface.ips)] if self._may_claim(known, now) else []
        return self._change(claimed, now)

    def _first(self, interface: Interface) -> Binding:
        return Binding(
            vni=self.vni, mac=interface.mac, site=self.site, sequence=1, ips=interface.ips
        )

    def _claim(self, known: Binding, ips: tuple[IpAddress, ...] = ()) -> Binding:
        """Return the binding that says that an address is here: a move of its own, or the end of one."""
        ends = known.site == self.site and known.state is BindingState.MOVING
        return replace(
            known,
            site=self.site,
            sequence=known.sequence + (not ends),
            state=BindingState.SETTLED,
            origin=None,
            ips=ips or known.ips,
        )

    def _is_news(self, known: Binding, ips: tuple[IpAddress, ...]) -> bool:
        """Say whether it's news that an address is here, known by these; none says nothing."""
        return not self.book.settles_here(known) or (bool(ips) and {*ips} != {*known.ips})

    def _present(self, macs: frozenset[MacAddress] | None, now: float) -> list[Instruction]:
        """Let addresses go whose VMs have been nowhere here for long, as all hypervisors say each time."""
        if macs is None:  # who doesn't answer may have had them meanwhile
            self._missing.clear()
            return []
        missing = [
            mac
            for mac, known in self.book.known.items()
            if known.site == self.site and mac not in macs and self._may_go(mac)
        ]
        self._missing = {mac: self._missing.get(mac, now) for mac in missing}
        gone = [
            replace(self.book.known[mac], state=BindingState.GONE)
            for mac, since in self._missing.items()
            if now - since >= self.timing.gone_seconds
        ]
        return [*self._change(gone, now), *self._hold()]

    def _may_go(self, mac: MacAddress) -> bool:
        """Say whether an address is for this site to give up, on its way here included: it ended meanwhile."""
        return (
            self.book.is_here(mac)
            and mac not in self._offered
            and mac not in self._leaving
            and mac not in self._fixed
        )

    def _may_claim(self, known: Binding, now: float) -> bool:
        """Say whether to claim an address; it's noted where nobody has announced that it would come."""
        mac = known.mac
        if known.state is not BindingState.SETTLED or mac in self._taps.arriving:
            return True
        # Changes of its IP addresses say nothing of whose it is.
        allowance = self._renamings if known.site == self.site else self._claims
        return allowance.take(mac, now)

    # --- time ----------------------------------------------------------------------------------------

    def _end_detours(self, applied: Applied, now: float) -> list[Instruction]:
        timing = self.timing
        over = [
            mac
            for mac, detour in self.book.detours.items()
            if detour.revision is not None
            and now - detour.since >= timing.linger_seconds
            and (
                detour.revision <= applied.revision
                or (
                    detour.revision <= applied.by_heard
                    and now - detour.since >= timing.silent_seconds
                )
            )
            and self.book.known[mac].state is BindingState.SETTLED
        ]
        for mac in over:
            del self.book.detours[mac]
        return self._apply(over)

    def _ticked(self, now: float) -> list[Instruction]:
        timing = self.timing
        late = [
            offered.binding
            for offered in self._offered.values()
            if now - offered.at >= timing.offer_seconds
        ]
        instructions = self._offer(late, now)
        for mac, detour in self.book.detours.items():
            moving = self.book.known[mac].state is BindingState.MOVING
            if moving and now - max(detour.since, detour.asked) >= timing.confirm_seconds:
                detour.asked = self._looking[mac] = now
                instructions.append(Look(mac=mac))
        return [*instructions, *self._forget_sequences(now)]

    def _forget_sequences(self, now: float) -> list[Instruction]:
        old = [
            mac
            for mac, since in self._gone.items()
            if now - since >= self.timing.remembered_seconds and mac not in self._offered
        ]
        self._gone |= dict.fromkeys(old, now)  # once more then, should the register not hear of it
        return [Retire(bindings=tuple(self.book.known[mac] for mac in old))] if old else []

    # --- how it is said --------------------------------------------------------------------------------

    def _change(self, bindings: list[Binding], now: float) -> list[Instruction]:
        """Let the kernel follow first: others may take longer to hear of it."""
        for binding in bindings:
            self._enter(binding, now)
        return [*self._apply(b.mac for b in bindings), *self._offer(bindings, now)]

    def _apply(self, macs: Iterable[MacAddress], *others: Route) -> list[Instruction]:
        changed = dict.fromkeys(macs)
        rivals = self.book.take_rivals() - changed.keys()
        routes = (*map(self.book.route, (*changed, *sorted(rivals))), *others)
        return [Apply(routes=routes)] if routes else []

    def _offer(self, bindings: list[Binding], now: float) -> list[Instruction]:
        for binding in bindings:
            self._offered[binding.mac] = Offered(binding, now)
        return [Offer(bindings=tuple(bindings))] if bindings else []

    def _note(self, interfaces: Iterable[Interface], *, run: bool = True) -> list[MacAddress]:
        """Remember behind which ports addresses are, which are so missed no more; return the new ones."""
        for each in interfaces:
            self._missing.pop(each.mac, None)
        return self.book.note(interfaces, run=run)
