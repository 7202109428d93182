"""Puts moves in an order that can be carried out: stages, within each of which moves may run at once.

While a VM moves it occupies both its hosts, so a move begins only where the destination has the room at that
instant. The VMs of a group follow one another, that the time in which it's split is short; groups with the
nearest deadline go first, moves that can't be in time anyway after them, elective moves last. A spread that
holds always is kept at every instant. Moves that can't begin in any order are handed back with why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transhume.knowledge.model import CloudName, HostName, Resources, VmName


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A VM's way from host to host, before it becomes a step."""

    vm: VmName
    source: HostName
    destination: HostName
    source_cloud: CloudName
    destination_cloud: CloudName
    needs: Resources
    seconds: float
    unit: str
    """Moves of one unit follow one another: a group."""
    urgency: tuple[float, ...] = ()
    """Units with the least go first."""

    @property
    def link(self) -> frozenset[CloudName]:
        """The path that the move occupies."""
        return frozenset((self.source_cloud, self.destination_cloud))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlwaysSpread:
    """These VMs are in at least `minimum` clouds at every instant."""

    vms: frozenset[VmName]
    minimum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The moves in order with the number of their stage, and those that no order allows."""

    stages: tuple[tuple[Move, ...], ...]
    stuck: Mapping[VmName, str]

    def finished_after(self) -> dict[VmName, float]:
        """Return how many seconds after the start each move is predicted to have ended."""
        ends: dict[VmName, float] = {}
        clock = 0.0
        for stage in self.stages:
            ends |= {move.vm: clock + _busy(stage, move) for move in stage}
            clock = max(ends[move.vm] for move in stage)
        return ends


def schedule(
    moves: Sequence[Move],
    *,
    free: Mapping[HostName, Resources],
    cloud_of: Mapping[VmName, CloudName],
    spreads: Sequence[AlwaysSpread] = (),
    moves_per_link: int = 1,
) -> Schedule:
    """Order the moves.

    Args:
        moves: at most one a VM.
        free: what each host could take before the first move.
        cloud_of: where each VM is before the first move.
        spreads: what must be true at every instant; one that isn't at first isn't asked for.
        moves_per_link: how many moves share a link at a time.
    """
    ground = _Ground(free=dict(free), cloud_of=dict(cloud_of), spreads=tuple(spreads))
    units: dict[tuple[tuple[float, ...], str], list[Move]] = {}
    for move in sorted(moves, key=lambda m: (m.urgency, m.unit, m.vm)):
        units.setdefault((move.urgency, move.unit), []).append(move)
    order: list[Move] = []
    waiting = list(units.values())
    while waiting:
        ready = next((r for r in map(ground.in_order, waiting) if r), None)
        ready = ready or ground.first_startable(waiting)
        if not ready:
            break
        for move in ready:
            ground.carry_out(move)
        order += ready
        gone = {move.vm for move in ready}
        waiting = [rest for unit in waiting if (rest := [m for m in unit if m.vm not in gone])]
    stuck = {m.vm: ground.why_not(m) for unit in waiting for m in unit}
    return Schedule(
        stages=_staged(order, free, tuple(spreads), moves_per_link),
        stuck=stuck,
    )


@dataclass(slots=True)
class _Ground:
    """Who is where between two moves."""

    free: dict[HostName, Resources]
    cloud_of: dict[VmName, CloudName]
    spreads: tuple[AlwaysSpread, ...]

    def copy(self) -> "_Ground":
        return _Ground(free=dict(self.free), cloud_of=dict(self.cloud_of), spreads=self.spreads)

    def carry_out(self, move: Move) -> None:
        self.free[move.destination] -= move.needs
        self.free[move.source] += move.needs
        self.cloud_of[move.vm] = move.destination_cloud

    def why_not(self, move: Move) -> str:
        """Return what keeps a move from beginning now; nothing where it may begin."""
        if not self.free[move.destination].covers(move.needs):
            return (
                f"{move.destination} has no room while others are on their way, and no order of the "
                "moves makes any"
            )
        for rule in self.spreads:
            if move.vm in rule.vms:
                after = {**self.cloud_of, move.vm: move.destination_cloud}
                if self._breadth(rule, after) < min(
                    rule.minimum, self._breadth(rule, self.cloud_of)
                ):
                    return f"its going would leave its peers in fewer than {rule.minimum} clouds"
        return ""

    @staticmethod
    def _breadth(rule: AlwaysSpread, cloud_of: Mapping[VmName, CloudName]) -> int:
        return len({cloud_of[vm] for vm in rule.vms})

    def in_order(self, unit: Sequence[Move]) -> list[Move]:
        """Return an order in which the whole unit can go now; nothing where there is none."""
        trial, left, order = self.copy(), list(unit), []
        while left:
            move = next((m for m in left if not trial.why_not(m)), None)
            if move is None:
                return []
            trial.carry_out(move)
            left.remove(move)
            order.append(move)
        return order

    def first_startable(self, units: Sequence[Sequence[Move]]) -> list[Move]:
        """Return one move that can begin, though the rest of its unit has to wait."""
        return next(([m] for unit in units for m in unit if not self.why_not(m)), [])


def _staged(
    order: Sequence[Move],
    free: Mapping[HostName, Resources],
    spreads: tuple[AlwaysSpread, ...],
    moves_per_link: int,
) -> tuple[tuple[Move, ...], ...]:
    """Cut the order into stages: what one stage's departures free is there for the next one only."""
    room = dict(free)
    stages: list[list[Move]] = []
    for move in order:
        joins = bool(stages) and _may_join(stages[-1], move, room, spreads, moves_per_link)
        if not joins:
            for gone in stages[-1] if stages else ():
                room[gone.source] += gone.needs
            stages.append([])
        room[move.destination] -= move.needs
        stages[-1].append(move)
    return tuple(tuple(stage) for stage in stages)


def _may_join(
    stage: Sequence[Move],
    move: Move,
    room: Mapping[HostName, Resources],
    spreads: tuple[AlwaysSpread, ...],
    moves_per_link: int,
) -> bool:
    """Say whether a move may run beside those of a stage."""
    together = {m.vm for m in stage} | {move.vm}
    return (
        room[move.destination].covers(move.needs)
        and move.urgency == stage[0].urgency
        and sum(m.link == move.link for m in stage) < moves_per_link
        and not any(move.vm in rule.vms and len(rule.vms & together) > 1 for rule in spreads)
    )


def _busy(stage: Sequence[Move], move: Move) -> float:
    """Return how long a move takes when its link is shared with the others of its stage."""
    return sum(m.seconds for m in stage if m.link == move.link)
