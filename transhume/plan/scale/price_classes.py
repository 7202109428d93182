"""Clouds that cost the same to send to and from, and prices by class: what makes a message cheap to pass.

Egress is priced by provider and region, so many clouds are alike. The least over all clouds of what was told
and the price from there is then found from the least of each class: clouds + classes² steps rather than
clouds². Classes are read off the matrix of prices; one where no two clouds are alike has a class for each.

Clouds of a class aren't one: between two of them traffic has a price, within one it has none. The price of a
class to itself is therefore what two of its clouds charge each other, and staying in a cloud is seen to apart.
"""

from typing import NamedTuple

import numpy as np

from transhume.plan.scale.instance import Booleans, Integers
from transhume.plan.scale.lanes import Shorts, interleaved
from transhume.plan.scale.level import Reals

WORTHWHILE = 0.7
"""Up to so many classes for a cloud, going by class is faster."""


class Prices(NamedTuple):
    """Prices by class, for kernels."""

    group: Integers
    """Each cloud's class; empty where hardly any are alike and each is taken by itself, in order."""
    tables: Shorts
    """What is paid from class to class and back, as `lanes.least_sums` reads it."""


def prices_by_class(price: Reals) -> Prices:
    """Return the classes of a matrix of prices, and what they charge each other."""
    group = classes(price)
    count = int(group.max()) + 1
    if count > WORTHWHILE * len(price):
        return Prices(np.zeros(0, dtype=np.int64), interleaved(price, price.T))
    first = np.array([np.flatnonzero(group == each)[0] for each in range(count)])
    last = np.array([np.flatnonzero(group == each)[-1] for each in range(count)])
    # From the first of a class to the last of another: of its own too, so that this isn't the diagonal.
    by_class = price[first[:, None], last]
    return Prices(group, interleaved(by_class, by_class.T))


def classes(price: Reals) -> Integers:
    """Number each cloud's class: rows and columns of a class are equal, but for who is who."""
    group = np.zeros(len(price), dtype=np.int64)
    leaders = list[int]()
    for cloud in range(len(price)):
        like = (at for at, leader in enumerate(leaders) if _alike(price, cloud, leader))
        group[cloud] = next(like, len(leaders))
        if group[cloud] == len(leaders):
            leaders.append(cloud)
    return group


def _alike(price: Reals, one: int, other: int) -> bool:
    rest: Booleans = np.ones(len(price), dtype=np.bool_)
    rest[[one, other]] = False
    return bool(
        price[one, other] == price[other, one]
        and (price[one, rest] == price[other, rest]).all()
        and (price[rest, one] == price[rest, other]).all()
    )
