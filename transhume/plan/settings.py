"""What the planner assumes where nothing was measured and no policy speaks: every such number is here."""

from dataclasses import dataclass

from transhume.knowledge.model import CloudName, VmName


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSettings:
    """Assumptions and limits of the planner."""

    horizon_seconds: float = 6 * 3600.0
    """One-time costs (moves, losses, lateness) are spread over this; a move must have paid by its end."""
    solver_seconds: float = 20.0
    """How long the solver may look at one problem; past it, the best plan found is taken unproved."""
    most_proved_vms: int = 200
    """Problems in which more VMs have a choice are searched, and no prover is asked, where that can be."""

    memory_factor: float = 0.7
    """Bytes sent for each byte of a VM's memory, until past moves tell better."""
    disk_factor: float = 1.0
    """Bytes sent for each byte that copied disks hold, until past moves tell better."""
    common_disks: frozenset[tuple[VmName, frozenset[CloudName]]] = frozenset()
    """The VMs whose disks both of these clouds see, or all of one, until moves tell better."""
    max_dirty_inflation: float = 4.0
    """How many times over a busy guest's memory is sent at most: then the hypervisor slows the guest."""
    link_bytes_per_second: float = 12.5e6
    """The path between two clouds of which nobody said what it carries."""
    inner_bytes_per_second: float = 125e6
    """The path between two hosts of one cloud."""
    overhead_seconds: float = 1.0
    """Setting up and ending a migration."""
    downtime_seconds: float = 0.5
    """A guest's pause, until past moves tell better."""

    loss_dollars_per_vcpu: float = 10.0
    """What it costs, once, to lose a VM with its host, for each of its vCPUs."""
    late_dollars_per_second: float = 1.0
    """What a job's being late costs, once, for each second."""
    preference_dollars_per_hour: float = 1e-4
    """What being outside the preferred clouds weighs: enough to break a tie, too little to be billed."""
    negligible_dollars_per_hour: float = 1e-7
    """Pairs of VMs whose traffic could never cost this much don't enter the solver's problem."""

    moves_per_link: int = 1
    """Moves that share a link at a time: shared, each takes longer and sends more dirtied pages again."""
    moves_per_host: int = 8
    """Moves that a host takes part in at a time, coming and going: they share its network card."""
    transit_headroom: float = 0.02
    """The share of a cloud that elective moves leave free, that later moves find room on their way."""
    most_polished_moves: int = 50
    """Up to so many migrations, CP-SAT looks for a shorter schedule (the extra `[prove]`); 0: never."""
    polish_effort: float = 0.5
    """What it may spend on that, in seconds as it counts them by its work: a few by the clock; 0: nothing."""
    rounds: int = 40
    """How often the planner tries again when a placement can't be packed or put in order."""

    most_explained_vms: int = 1000
    """As many VMs are explained with a decision, those that move first; 0: none."""
    most_alternatives: int = 12
    """As many other places are told for each of them, the cheapest first."""
    most_limits: int = 6
    """As many limits that bind are told, the dearest first."""
    most_resolved: int = 2
    """Of these, as many are priced exactly, by solving again with the limit loosened."""
    most_resolved_vms: int = 12
    """Where more VMs have a choice, none is: such a price is only a least one."""
