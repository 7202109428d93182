"""The dual problem: prices of room and moves, and messages, that prove how little any assignment could cost.

Limits on room and moves get prices (a Lagrangian relaxation); what is left is a Markov random field, which
message passing bounds. A round passes messages once (three times, before prices change, finds a bound 1 to 2 %
lower at 10,000 VMs in the same time), reads an assignment off them, and raises the price of what that
assignment has too little of, by as much as Polyak's rule says. The prices are what a unit of room is worth: how
much cheaper all would be with one more of it.

Prices jump about; so at the end messages are passed some more at the best prices, which proves a little more.
What comes out is a certificate, which `transhume.plan.scale.certificate` checks without any of this, and the
assignment read off then: rarely feasible, but the best start for a search that we know of.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transhume.plan.scale.certificate import Certificate, certified_bound
from transhume.plan.scale.instance import Booleans, Instance, Integers
from transhume.plan.scale.level import Level, Reals
from transhume.plan.scale.message_passing import Field, field_of, lengthened, pass_messages

FIRST_STEP, SHORTER, SMALLEST_STEP = 0.3, 0.6, 3e-5
INERTIA = 0.5
"""How much of the last step's direction is in the next: zigzagging less, it proves 0.05 to 0.1 % more."""
PATIENCE = 7
"""Rounds without gain before steps get shorter."""
NEGLIGIBLE = 1e-5
"""A gain of this share of the cost is none."""
SETTLING = 30
"""Rounds at the best prices that were found, at most."""
SETTLED = 1e-7
LARGE = 1 << 14
"""From so many slots by clouds, messages are short; only the last, which are written down, are exact."""
MOST_BITS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What the dual knows about good assignments."""

    room_price: Reals
    """By cloud and resource, in units of money: the shadow prices."""
    move_price: float
    decoded: Integers
    """An assignment that may break limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dual:
    """What was proved, and what it suggests."""

    bound: int
    """No feasible assignment costs less; checked."""
    certificate: Certificate
    suggestion: Suggestion
    rounds: int


@dataclass(slots=True)
class Ascent:
    """Climbs towards the best prices, and remembers the best it saw."""

    instance: Instance
    known: float
    """What the best assignment known costs, which tells how far there is to go."""
    field: Field
    step: float = FIRST_STEP
    idle: int = 0
    best: float = -np.inf
    best_room: Reals = dataclasses.field(init=False)
    best_moves: float = 0.0
    best_decoded: Integers = dataclasses.field(init=False)
    rounds: int = 0
    direction: Reals | None = None
    """Where the last step went: by cloud and resource, and then by moves."""

    @classmethod
    def of(cls, instance: Instance, level: Level, *, known: int) -> "Ascent":
        """Begin at the foot: nothing has a price."""
        large = len(level.other) * instance.cloud_count >= LARGE
        field = field_of(level, 4.0 * _reach(instance), instance.home, short=large)
        return cls(instance=instance, known=float(known), field=field)

    def narrowed(self, allowed: Booleans, *, known: int, step: float) -> "Ascent":
        """Return an ascent for assignments that keep to less, from where this one is."""
        level = self.field.level._replace(allowed=allowed)
        narrowed = Ascent.of(self.instance, level, known=known)
        narrowed.step = step
        narrowed.field.messages[:] = self.field.messages
        narrowed.field.room_price[:] = self.best_room
        narrowed.field.move_price[0] = self.best_moves
        return narrowed

    def round(self) -> None:
        """Pass messages at the present prices, then change the prices."""
        field = self.field
        bound = self._pass()
        self.idle = 0 if bound > self.best + NEGLIGIBLE * abs(self.known) else self.idle + 1
        if bound > self.best:
            self.best = bound
            self.best_room, self.best_moves = field.room_price.copy(), float(field.move_price[0])
            self.best_decoded = field.decoded.copy()
        if self.idle >= PATIENCE:
            self.step, self.idle = self.step * SHORTER, 0
        self._reprice(bound)

    def _settle(self, enough: Callable[[], bool]) -> Field:
        """Go back to the best prices, and pass messages until that proves no more; return them, exact."""
        self.field.room_price[:], self.field.move_price[0] = self.best_room, self.best_moves
        before = -np.inf
        for _ in range(SETTLING):
            bound = self._pass()
            if bound - before < SETTLED * abs(self.known) or enough():
                break
            before = bound
        exact = lengthened(self.field)
        if exact is not self.field:
            pass_messages(exact)
            self.rounds += 1
            self.field.messages[:] = exact.messages
        self.best_decoded = self.field.decoded.copy()
        return exact

    def climb(self, rounds: int, enough: Callable[[], bool] = lambda: False) -> None:
        """Go on for so many rounds, until it's enough or no use; the first round is always done."""
        for _ in range(max(rounds, 0 if self.rounds else 1)):
            if self.rounds and (self.done or enough()):
                break
            self.round()

    def proved(self, enough: Callable[[], bool] = lambda: False) -> Dual:
        """Return what is proved by now."""
        certificate = _certificate(self, self._settle(enough))
        return Dual(
            bound=certified_bound(self.instance, certificate, self.field.level.allowed),
            certificate=certificate,
            suggestion=self.suggestion(),
            rounds=self.rounds,
        )

    def suggestion(self) -> Suggestion:
        """Return what the best round suggests."""
        return Suggestion(
            room_price=self.best_room, move_price=self.best_moves, decoded=self.best_decoded
        )

    @property
    def done(self) -> bool:
        """Whether going on is no use."""
        return self.step < SMALLEST_STEP or self.known - self.best < 1

    def _pass(self) -> float:
        field, instance = self.field, self.instance
        self.rounds += 1
        limits = (field.room_price * instance.capacity).sum()
        limits += field.move_price[0] * instance.move_limit
        return pass_messages(field) - float(limits)

    def _reprice(self, bound: float) -> None:
        field, level = self.field, self.field.level
        limits = np.maximum(np.append(level.capacity, level.move_limit), 1)
        used = np.append(field.used[:-1], field.used[-1, 0])
        excess = (used - np.append(level.capacity, level.move_limit)) / limits
        if self.direction is not None:
            excess = (1 - INERTIA) * excess + INERTIA * self.direction
        self.direction = excess
        prices = np.append(field.room_price, field.move_price[0])
        excess = np.where((prices <= 0) & (excess < 0), 0, excess)
        square = float((excess**2).sum())
        if square > 1e-14:
            step = self.step * max(self.known - bound, 1e-6 * abs(self.known)) / square
            prices = np.maximum(0, prices + step * excess / limits)
            field.room_price[:] = prices[:-1].reshape(level.capacity.shape)
            field.move_price[0] = prices[-1]


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
        known: what the best assignment known costs.
        rounds: how many rounds at most; at least one is done.
        enough: asked after each round.
    """
    ascent = Ascent.of(instance, level, known=known)
    ascent.climb(rounds, enough)
    return ascent.proved(enough)


def _reach(instance: Instance) -> float:
    """Return the most that it can matter, to VMs and pairs around it, where one VM is."""
    crossing = instance.traffic.sum(axis=1) * instance.price.max(initial=0)
    around = np.abs(instance.unary).max(axis=1, initial=0).astype(np.float64)
    for end in (0, 1):
        np.add.at(around, instance.pairs[:, end], crossing)
    return float(around.max(initial=0.0)) + 1.0


def _certificate(ascent: Ascent, field: Field) -> Certificate:
    """Write the last messages down in whole numbers.

    On the way back each node gave `share` of what it had gathered to each pair with a lower node. What pairs
    gave to nodes is therefore the message to the lower end; and to the higher end, the message that came from
    the lower one less that share.
    """
    level = field.level
    messages: Reals = field.messages[:, : ascent.instance.cloud_count].astype(np.float64)
    gathered = _charged(field)
    node = np.repeat(np.arange(len(gathered)), np.diff(level.start))
    np.add.at(gathered, node, messages)
    gathered -= gathered.min(axis=1, keepdims=True)
    below = np.bincount(node[level.other < node], minlength=len(gathered))
    gathered /= np.maximum(1, np.maximum(below, np.diff(level.start) - below))[:, None]
    upward = np.flatnonzero(
        node < level.other
    )  # the slots of pairs with their first ends, in order
    downward = level.reverse[upward]
    given = np.stack([messages[upward], messages[downward] - gathered[level.other[upward]]], axis=1)
    ends = ascent.instance.pairs
    given[~level.allowed[ends]] = 0.0
    bits = _fraction_bits(ascent, given)
    return Certificate(
        fraction_bits=bits,
        room_price=np.rint(field.room_price * 2.0**bits).astype(np.int64),
        move_price=round(float(field.move_price[0]) * 2.0**bits),
        messages=np.rint(given * 2.0**bits).astype(np.int64),
    )


def _charged(field: Field) -> Reals:
    """Return unary costs with what room and moves cost, and a deterrent where a node may not be."""
    level = field.level
    charged = level.unary + level.size @ field.room_price.T + field.move_price[0] * level.moved
    charged[~level.allowed] = field.forbidding
    return np.asarray(charged)


def _fraction_bits(ascent: Ascent, given: Reals) -> int:
    """Return how finely numbers can be written down without any sum's overflowing."""
    instance, field = ascent.instance, ascent.field
    degree = int(np.diff(field.level.start).max(initial=0))
    room = np.maximum(instance.size.sum(axis=0), instance.capacity.max(axis=0))
    largest = (
        instance.dearest
        + (degree + 2) * (float(np.abs(given).max(initial=0.0)) + 1)
        + float((field.room_price.max(axis=0) * room).sum())
        + float(field.move_price[0]) * float(instance.machines.sum())
    )
    return max(0, min(MOST_BITS, 60 - int(np.ceil(np.log2(largest + 1)))))
