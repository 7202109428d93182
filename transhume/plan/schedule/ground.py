"""The state of hosts, links and spreads at one instant of a schedule that is being made.

A VM on its way occupies both its hosts. Room that a unit was promised when its first VM left is kept for its
others. While a member of a spread is on its way, it counts as being in neither cloud, unless it's alone.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from transhume.knowledge.model import CloudName, HostName, Resources, VmName
from transhume.plan.schedule.moves import AlwaysSpread, Link, Move, Terms

NOBODY = -1
"""Stands for a leg in a slot that none has held yet."""


@dataclass(slots=True)
class Yard:
    """What a host can take: now, after what is kept for others, and when those that are leaving have left."""

    vcpus: int
    memory_bytes: int
    kept_vcpus: int = 0
    kept_memory_bytes: int = 0
    leaving_vcpus: int = 0
    leaving_memory_bytes: int = 0

    def has(self, needs: Resources, *, kept: bool) -> bool:
        """Say whether there is room now, beside what is kept for others or else in all."""
        vcpus, memory = self.vcpus - needs.vcpus, self.memory_bytes - needs.memory_bytes
        if kept:
            return vcpus >= self.kept_vcpus and memory >= self.kept_memory_bytes
        return vcpus >= 0 and memory >= 0

    def keep(self, needs: Resources, sign: int = 1) -> None:
        """Keep room for somebody, or with -1 give it up."""
        self.kept_vcpus += sign * needs.vcpus
        self.kept_memory_bytes += sign * needs.memory_bytes


class Watch:
    """A spread that holds always, while its members move."""

    def __init__(self, rule: AlwaysSpread, cloud_of: Mapping[VmName, CloudName]) -> None:
        self.rule = rule
        self._cloud_of = {vm: cloud_of[vm] for vm in rule.vms}
        self._settled = Counter(self._cloud_of.values())
        self._moving: set[VmName] = set()
        self.wanted = min(rule.minimum, len(self._settled))

    def allows(self, vm: VmName, cloud: CloudName) -> bool:
        """Say whether a member may begin to move there, wherever those on their way are by now."""
        here = self._cloud_of[vm]
        others = len(self._settled) - (self._settled[here] == 1)
        if others >= self.wanted:
            return True
        joins = cloud in self._settled and not (cloud == here and self._settled[here] == 1)
        return not self._moving and others + (not joins) >= self.wanted

    def begin(self, vm: VmName) -> None:
        """Take note that a member leaves."""
        here = self._cloud_of[vm]
        self._settled[here] -= 1
        if not self._settled[here]:
            del self._settled[here]
        self._moving.add(vm)

    def end(self, vm: VmName, cloud: CloudName) -> None:
        """Take note that a member has arrived."""
        self._moving.discard(vm)
        self._cloud_of[vm] = cloud
        self._settled[cloud] += 1


@dataclass(slots=True)
class Ground:
    """Everything that decides whether a move may begin. Build it with `of`."""

    yards: dict[HostName, Yard]
    watches: Mapping[VmName, tuple[Watch, ...]]
    moves_per_link: int
    moves_per_host: int | None
    links: dict[Link, list[int]] = field(default_factory=dict)
    """The free slots of each link, each with the leg that held it last."""
    cards: dict[HostName, list[int]] = field(default_factory=dict)
    """The same of each host's network card, where that is limited."""

    @classmethod
    def of(cls, terms: Terms) -> "Ground":
        """Return how things are before the first move."""
        watches: dict[VmName, tuple[Watch, ...]] = {}
        for watch in (Watch(rule, terms.cloud_of) for rule in terms.spreads):
            watches |= {vm: (*watches.get(vm, ()), watch) for vm in watch.rule.vms}
        return cls(
            yards={h: Yard(r.vcpus, r.memory_bytes) for h, r in terms.free.items()},
            watches=watches,
            moves_per_link=terms.moves_per_link,
            moves_per_host=terms.moves_per_host,
        )

    def link_is_free(self, link: Link) -> bool:
        """Say whether another move may use a link."""
        slots = self.links.get(link)
        return slots is None or bool(slots)

    def may_begin(self, move: Move, *, promised: bool = False, kept: bool = True) -> bool:
        """Say whether a move may begin now, its link apart.

        Args:
            move: the move.
            promised: room was kept for it.
            kept: what is kept for others is theirs.
        """
        if not self.yards[move.destination].has(move.needs, kept=kept and not promised):
            return False
        if self.moves_per_host is not None and not all(
            self.cards.get(host, True) for host in (move.source, move.destination)
        ):
            return False
        return all(
            watch.allows(move.vm, move.destination_cloud) for watch in self.watches.get(move.vm, ())
        )

    def why_not(self, move: Move) -> str:
        """Return what keeps a move from beginning now; nothing where nothing does."""
        if not self.yards[move.destination].has(move.needs, kept=False):
            return (
                f"{move.destination} has no room while others are on their way, and no order of the "
                "moves makes any"
            )
        for watch in self.watches.get(move.vm, ()):
            if not watch.allows(move.vm, move.destination_cloud):
                return f"its going would leave its peers in fewer than {watch.rule.minimum} clouds"
        return ""

    def begin(self, move: Move) -> tuple[int, ...]:
        """Let a move begin; return the legs that held what it now holds."""
        source, destination = self.yards[move.source], self.yards[move.destination]
        needs = move.needs
        destination.vcpus -= needs.vcpus
        destination.memory_bytes -= needs.memory_bytes
        source.leaving_vcpus += needs.vcpus
        source.leaving_memory_bytes += needs.memory_bytes
        held = [self.links.setdefault(move.link, [NOBODY] * self.moves_per_link).pop(0)]
        if self.moves_per_host is not None:
            for host in (move.source, move.destination):
                held.append(self.cards.setdefault(host, [NOBODY] * self.moves_per_host).pop(0))
        for watch in self.watches.get(move.vm, ()):
            watch.begin(move.vm)
        return tuple(sorted(set(held) - {NOBODY}))

    def end(self, move: Move, leg: int) -> None:
        """Let a move have ended, which was this leg."""
        source, needs = self.yards[move.source], move.needs
        source.vcpus += needs.vcpus
        source.memory_bytes += needs.memory_bytes
        source.leaving_vcpus -= needs.vcpus
        source.leaving_memory_bytes -= needs.memory_bytes
        self.links[move.link].append(leg)
        if self.moves_per_host is not None:
            for host in (move.source, move.destination):
                self.cards[host].append(leg)
        for watch in self.watches.get(move.vm, ()):
            watch.end(move.vm, move.destination_cloud)
