"""How long moves take at the very least: no order, however clever, is shorter.

A link carries so many moves at a time, and a host takes part in so many; the busiest of them has to do all
its work, and the longest move is one piece. Room, rules and parking are left out, which only lowers it.
"""

from collections import defaultdict
from collections.abc import Iterable

from transhume.knowledge.model import HostName
from transhume.plan.schedule.moves import Link, Move, Terms


def lower_bound(moves: Iterable[Move], terms: Terms) -> float:
    """Return the seconds that any schedule of the moves takes at least."""
    links: dict[Link, float] = defaultdict(float)
    hosts: dict[HostName, float] = defaultdict(float)
    longest = 0.0
    for move in moves:
        longest = max(longest, move.seconds)
        links[move.link] += move.seconds
        hosts[move.source] += move.seconds
        hosts[move.destination] += move.seconds
    bound = max(longest, max(links.values(), default=0.0) / terms.moves_per_link)
    if terms.moves_per_host is not None:
        bound = max(bound, max(hosts.values(), default=0.0) / terms.moves_per_host)
    return bound
