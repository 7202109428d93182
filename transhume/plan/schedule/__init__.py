"""Puts moves in an order that can be carried out, and says when each begins and ends.

While a VM moves it occupies both its hosts, so a move begins only where the destination has the room at that
instant. Links carry so many moves at a time. The VMs of a group follow one another, that the time in which
it's split is short. Mandatory moves begin before elective ones, those with the nearest deadline first, and
none that can't end in time. A spread that holds always is kept at every instant. Where moves wait for each
other in a circle, a VM is parked on the way. Moves that can't be made in any order are handed back with why.
"""

from collections.abc import Sequence

from transhume.plan.schedule.bound import lower_bound
from transhume.plan.schedule.dispatch import Dispatcher
from transhume.plan.schedule.moves import (
    AlwaysSpread,
    Berth,
    Berths,
    Chatter,
    Leg,
    Move,
    Schedule,
    Talk,
    Terms,
)
from transhume.plan.schedule.promises import with_promises

__all__ = [
    "AlwaysSpread",
    "Berth",
    "Berths",
    "Chatter",
    "Leg",
    "Move",
    "Schedule",
    "Talk",
    "Terms",
    "lower_bound",
    "schedule",
]


def schedule(moves: Sequence[Move], terms: Terms) -> Schedule:
    """Order the moves; at most one a VM. The same moves and terms give the same schedule."""
    dispatcher = Dispatcher(moves, terms)
    dispatcher.run()
    return Schedule(legs=with_promises(dispatcher.legs, terms), stuck=dispatcher.stuck)
