"""The check of a proof: how little could any assignment cost? Plain NumPy, whole numbers, no kernels.

A certificate hands out costs without changing any assignment's total. Each pair gives to its two VMs, by the
cloud they are in, some of what it costs (its messages, of either sign); room and moves have prices, which an
assignment within the limits never pays in full. What is left then falls apart into VMs and pairs, and the sum
of each one's least is a lower bound, whatever the messages and prices are: a bad certificate proves little,
but nothing false. Found by `transhume.plan.scale.dual`; believed by nobody before it is checked here.

Where that is too little, a proof may go by cases: some VM is in one of these clouds, or it isn't; each case has
a proof of its own, and together they prove the lesser of what each of them proves.

All is counted in whole fractions of a unit of money, so that there's no rounding that could lift the bound.
"""

from dataclasses import dataclass

import numpy as np

from transhume.plan.scale.instance import Booleans, Instance, Integers

TOO_LARGE = 2**62
PAIRS_AT_ONCE = 1 << 16
"""How many entries of pairs' cost tables are looked at at a time: few enough for the processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Prices and messages, in units of money divided by 2 to the power of `fraction_bits`."""

    fraction_bits: int
    room_price: Integers
    """By cloud and resource, for a unit of it: the shadow price of room."""
    move_price: int
    """For a machine that moves."""
    messages: Integers
    """By pair, end (first, second) and cloud of that end: what the pair gives to the VM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """A proof by two cases, of which one is always true."""

    vm: int
    clouds: Booleans
    """By cloud: whether the VM is in one of these, or in none of them."""
    inside: "Evidence"
    """Proves something of the assignments that have the VM in one of these clouds."""
    outside: "Evidence"


Evidence = Certificate | Cases


def certified_bound(instance: Instance, evidence: Evidence, allowed: Booleans | None = None) -> int:
    """Return a cost that no feasible assignment is below.

    Args:
        instance: what there is to decide.
        evidence: what proves the bound.
        allowed: where VMs may be, if only assignments that keep to that are meant.

    Raises:
        ValueError: a price is negative, or the numbers are too large to be added without overflow.
    """
    possible = instance.allowed if allowed is None else allowed
    if isinstance(evidence, Cases):
        inside, outside = possible.copy(), possible.copy()
        inside[evidence.vm] &= evidence.clouds
        outside[evidence.vm] &= ~evidence.clouds
        return min(
            certified_bound(instance, evidence.inside, inside),
            certified_bound(instance, evidence.outside, outside),
        )
    return _bound_by_prices(instance, evidence, possible)


def _bound_by_prices(instance: Instance, certificate: Certificate, allowed: Booleans) -> int:
    if (certificate.room_price < 0).any() or certificate.move_price < 0:
        raise ValueError("prices of room and moves must not be negative")
    _refuse_overflow(instance, certificate)
    limits = int((certificate.room_price * instance.capacity).astype(object).sum())
    limits += certificate.move_price * instance.move_limit
    least = _least_of_vms(instance, certificate, allowed) - limits
    least += _least_of_pairs(instance, certificate, allowed)
    return -(-least >> certificate.fraction_bits)  # costs are whole: round up


def is_feasible(instance: Instance, assignment: Integers) -> bool:
    """Say whether an assignment keeps all limits; counts otherwise than the instance itself does."""
    everywhere = assignment[:, None] == np.arange(instance.cloud_count)
    if not (everywhere.sum(axis=1) == 1).all() or (everywhere & ~instance.allowed).any():
        return False
    moved = sum(instance.machines[assignment != instance.home].tolist())
    together = (everywhere[instance.pairs[:, 0]] & everywhere[instance.pairs[:, 1]]).any(axis=1)
    fits = (everywhere.T.astype(np.int64) @ instance.size <= instance.capacity).all()
    return bool(fits) and moved <= instance.move_limit and not (together & instance.apart).any()


def _least_of_vms(instance: Instance, certificate: Certificate, allowed: Booleans) -> int:
    held = instance.unary << certificate.fraction_bits
    held = held + instance.size @ certificate.room_price.T
    away = np.arange(instance.cloud_count) != instance.home[:, None]
    held += away * instance.machines[:, None] * certificate.move_price
    for end in (0, 1):
        np.add.at(held, instance.pairs[:, end], certificate.messages[:, end])
    return _total(_masked(held, allowed).min(axis=1))


def _least_of_pairs(instance: Instance, certificate: Certificate, allowed: Booleans) -> int:
    step = max(1, PAIRS_AT_ONCE // instance.cloud_count**2)
    same = np.eye(instance.cloud_count, dtype=np.bool_)
    price = instance.price << certificate.fraction_bits
    total = 0
    for some in (slice(at, at + step) for at in range(0, len(instance.pairs), step)):
        one, other = instance.pairs[some].T
        forth, back = instance.traffic[some].T[:, :, None, None]
        given = certificate.messages[some]
        left = forth * price + back * price.T - given[:, 0, :, None] - given[:, 1, None, :]
        possible = allowed[one][:, :, None] & allowed[other][:, None, :]
        possible &= ~(instance.apart[some][:, None, None] & same)
        total += _total(_masked(left, possible).min(axis=(1, 2)))
    return total


def _masked(costs: Integers, possible: Booleans) -> Integers:
    return np.where(possible, costs, TOO_LARGE)


def _total(parts: Integers) -> int:
    return sum(parts.tolist())


def _refuse_overflow(instance: Instance, certificate: Certificate) -> None:
    degree = int(np.bincount(instance.pairs.ravel(), minlength=1).max())
    message = max(
        abs(int(certificate.messages.max(initial=0))), abs(int(certificate.messages.min(initial=0)))
    )
    size = np.maximum(instance.size.sum(axis=0), instance.capacity.max(axis=0)).tolist()
    room = sum(
        int(price) * each
        for price, each in zip(certificate.room_price.max(axis=0), size, strict=True)
    )
    moves = certificate.move_price * int(instance.machines.sum())
    if (instance.dearest << certificate.fraction_bits) + (
        degree + 2
    ) * message + room + moves >= TOO_LARGE:
        raise ValueError("the certificate's numbers are too large; give it fewer fraction bits")
