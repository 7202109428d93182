"""The dual problem: prices of room and moves, and messages, that prove how little any assignment could cost.

Limits on room and moves get prices (a Lagrangian relaxation); what is left is a Markov random field, which
message passing bounds. A round passes messages once (three times, before prices change, finds a bound 1 to 2 %
lower at 10,000 VMs in the same time), reads an assignment off them, and raises the price of what that
assignment has too little of, by as much as Polyak's rule says. The prices are what a unit of room is worth: how
much cheaper all would be with one more of it.

What comes out is a certificate, which `transhume.plan.scale.certificate` checks without any of this, and the
assignment that the best round read off: rarely feasible, but the best start for a search that we know of.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from transhume.plan.scale.certificate import Certificate, certified_bound
from transhume.plan.scale.instance import Instance, Integers
from transhume.plan.scale.level import Level, Reals
from transhume.plan.scale.message_passing import Field, pass_messages

FIRST_STEP, SHORTER, SMALLEST_STEP = 0.3, 0.6, 3e-5
PATIENCE = 7
"""Rounds without gain before steps get shorter."""
NEGLIGIBLE = 1e-5
"""A gain of this share of the cost is none."""
MOST_BITS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Dual:
    """What was proved, and what it suggests."""

    bound: int
    """No feasible assignment costs less; checked."""
    certificate: Certificate
    room_price: Reals
    """By cloud and resource, in units of money: the shadow prices."""
    move_price: float
    decoded: Integers
    rounds: int


@dataclass(slots=True)
class _Prices:
    room: Reals
    moves: float = 0.0

    def times(self, instance: Instance) -> float:
        """Return what all the room and all the moves cost."""
        return float((self.room * instance.capacity).sum()) + self.moves * instance.move_limit


@dataclass(slots=True)
class _Ascent:
    """Climbs towards the best prices, and remembers the best it saw."""

    instance: Instance
    level: Level
    known: float
    forbidding: float
    prices: _Prices
    messages: Reals
    decoded: Integers
    step: float = FIRST_STEP
    idle: int = 0
    best: float = -np.inf
    best_prices: _Prices = field(init=False)
    best_messages: Reals = field(init=False)
    best_decoded: Integers = field(init=False)

    def round(self) -> None:
        """Pass messages at the present prices, then change the prices."""
        charged = charged_unary(self.level, self.prices.room, self.prices.moves, self.forbidding)
        field = Field(self.level, charged, self.forbidding, self.messages, self.decoded)
        bound = pass_messages(field) - self.prices.times(self.instance)
        self.idle = 0 if bound > self.best + NEGLIGIBLE * abs(self.known) else self.idle + 1
        if bound > self.best:
            self.best = bound
            self.best_prices = _Prices(self.prices.room.copy(), self.prices.moves)
            self.best_messages, self.best_decoded = self.messages.copy(), self.decoded.copy()
        if self.idle >= PATIENCE:
            self.step, self.idle = self.step * SHORTER, 0
        self._reprice(bound)

    @property
    def done(self) -> bool:
        """Whether going on is no use."""
        return self.step < SMALLEST_STEP or self.known - self.best < 1

    def _reprice(self, bound: float) -> None:
        level, prices = self.level, self.prices
        used = np.zeros_like(level.capacity)
        np.add.at(used, self.decoded, level.size)
        room = np.maximum(level.capacity, 1)
        excess = (used - level.capacity) / room
        excess[(prices.room <= 0) & (excess < 0)] = 0
        moved = int(level.moved[np.arange(len(self.decoded)), self.decoded].sum())
        limit = max(1, level.move_limit)
        many = (moved - level.move_limit) / limit
        many = 0.0 if prices.moves <= 0 and many < 0 else many
        square = float((excess**2).sum()) + many**2
        if square > 1e-14:
            step = self.step * max(self.known - bound, 1e-6 * abs(self.known)) / square
            prices.room = np.maximum(0, prices.room + step * excess / room)
            prices.moves = max(0.0, prices.moves + step * many / limit)


def find_bound(
    instance: Instance,
    level: Level,
    *,
    known: int,
    rounds: int,
    enough: Callable[[], bool] = lambda: False,
) -> Dual:
    """Return the best bound found.

    Args:
        instance: what there is to decide.
        level: the same for kernels.
        known: what the best assignment known costs, which tells how far there is to go.
        rounds: how many rounds at most; at least one is done.
        enough: asked after each round.
    """
    shape = (instance.vm_count, instance.cloud_count)
    ascent = _Ascent(
        instance=instance,
        level=level,
        known=float(known),
        forbidding=4.0 * _reach(instance),
        prices=_Prices(np.zeros_like(level.capacity)),
        messages=np.zeros((len(level.other), shape[1])),
        decoded=instance.home.copy(),
    )
    done = 0
    while done < max(1, rounds) and not (done and (ascent.done or enough())):
        ascent.round()
        done += 1
    certificate = _certificate(ascent)
    return Dual(
        bound=certified_bound(instance, certificate),
        certificate=certificate,
        room_price=ascent.best_prices.room,
        move_price=ascent.best_prices.moves,
        decoded=ascent.best_decoded,
        rounds=done,
    )


def charged_unary(level: Level, room_price: Reals, move_price: float, forbidding: float) -> Reals:
    """Return unary costs with what room and moves cost, and a deterrent where a node may not be."""
    charged = level.unary + level.size @ room_price.T + move_price * level.moved
    charged[~level.allowed] = forbidding
    return np.asarray(charged)


def _reach(instance: Instance) -> float:
    """Return the most that it can matter, to VMs and pairs around it, where one VM is."""
    crossing = instance.traffic.sum(axis=1) * instance.price.max(initial=0)
    around = np.abs(instance.unary).max(axis=1, initial=0).astype(np.float64)
    for end in (0, 1):
        np.add.at(around, instance.pairs[:, end], crossing)
    return float(around.max(initial=0.0)) + 1.0


def _certificate(ascent: _Ascent) -> Certificate:
    """Write the best round down in whole numbers.

    On the way back each node gave `share` of what it had gathered to each pair with a lower node. What pairs
    gave to nodes is therefore the message to the lower end; and to the higher end, the message that came from
    the lower one less that share.
    """
    level, messages, prices = ascent.level, ascent.best_messages, ascent.best_prices
    gathered = charged_unary(level, prices.room, prices.moves, ascent.forbidding)
    node = np.repeat(np.arange(len(gathered)), np.diff(level.start))
    np.add.at(gathered, node, messages[level.reverse])
    gathered -= gathered.min(axis=1, keepdims=True)
    below = np.bincount(node[level.other < node], minlength=len(gathered))
    gathered /= np.maximum(1, np.maximum(below, np.diff(level.start) - below))[:, None]
    upward = np.flatnonzero(
        node < level.other
    )  # the slots of pairs with their first ends, in order
    downward = level.reverse[upward]
    given = np.stack([messages[downward], messages[upward] - gathered[level.other[upward]]], axis=1)
    ends = ascent.instance.pairs
    given[~ascent.instance.allowed[ends]] = 0.0
    bits = _fraction_bits(ascent, given)
    return Certificate(
        fraction_bits=bits,
        room_price=np.rint(prices.room * 2.0**bits).astype(np.int64),
        move_price=round(prices.moves * 2.0**bits),
        messages=np.rint(given * 2.0**bits).astype(np.int64),
    )


def _fraction_bits(ascent: _Ascent, given: Reals) -> int:
    """Return how finely numbers can be written down without any sum's overflowing."""
    instance = ascent.instance
    degree = int(np.diff(ascent.level.start).max(initial=0))
    room = np.maximum(instance.size.sum(axis=0), instance.capacity.max(axis=0))
    largest = (
        instance.dearest
        + (degree + 2) * (float(np.abs(given).max(initial=0.0)) + 1)
        + float((ascent.best_prices.room.max(axis=0) * room).sum())
        + ascent.best_prices.moves * float(instance.machines.sum())
    )
    return max(0, min(MOST_BITS, 60 - int(np.ceil(np.log2(largest + 1)))))
