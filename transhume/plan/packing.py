"""Chooses the host of each arriving VM once its cloud is settled: best fit, the largest VM first.

Those who move for money get the hosts that those who must move leave them.
A host that has the room now is better than one that will have it once others have left: nobody has to wait.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from transhume.knowledge.model import HostName, Resources
from transhume.plan.constraints import Assignment
from transhume.plan.situation import Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Who goes to which host, and who fits on none."""

    host_of: Mapping[int, HostName]
    homeless: tuple[int, ...]


def pack(situation: Situation, assignment: Assignment, mended: Assignment) -> Packing:
    """Give every VM that moves a host of its new place; those that have to, by what is mended, choose first."""
    movers = [vm for vm in range(len(assignment)) if assignment[vm] != situation.home[vm]]
    now, later = dict(situation.free), dict(situation.free)
    for vm in movers:
        later[situation.snapshot.placement.host_of[situation.vms[vm]]] += situation.needs(vm)
    host_of: dict[int, HostName] = {}
    have_to = mended != situation.home
    for vm in sorted(
        movers, key=lambda v: (bool(have_to[v]), _size(situation.needs(v)), -v), reverse=True
    ):
        hosts = [h.name for h in situation.hosts_in(int(assignment[vm]))]
        host = _best_fit(situation.needs(vm), hosts, now, later)
        if host is not None:
            host_of[vm] = host
            now[host] -= situation.needs(vm)
            later[host] -= situation.needs(vm)
    return Packing(host_of=host_of, homeless=tuple(vm for vm in movers if vm not in host_of))


def _best_fit(
    need: Resources,
    hosts: Iterable[HostName],
    now: Mapping[HostName, Resources],
    later: Mapping[HostName, Resources],
) -> HostName | None:
    """Return the host that the VM fills up best, None where it fits nowhere."""
    fitting = [host for host in hosts if later[host].covers(need)]
    return min(
        fitting,
        key=lambda host: (not now[host].covers(need), _size(later[host] - need), host),
        default=None,
    )


def _size(amount: Resources) -> tuple[int, int]:
    return amount.memory_bytes, amount.vcpus
