"""Random instances of placing a virtual cluster's VMs on clouds, shaped like real ones, for a week.

VMs form communities whose sizes follow a power law; each talks in one of four ways (dense, master and workers,
a stencil, three tiers), with a little traffic between communities. Egress is priced by provider, latency by
region; some clouds are spot markets: cheap, but they revoke. Moving a VM sends its image and costs effort. A
few VMs are pinned, some may only be in some clouds, some must keep apart; half of them may move. Home is
scattered over the clouds, and feasible. Money is in micro-dollars, traffic in megabytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from transhume.plan.scale import Instance

HOURS = 168.0
DAYS = HOURS / 24
MICRODOLLARS = 1e6
MEGABYTES = 1e3
"""In a gigabyte."""
LARGEST_COMMUNITY, POWER = 400, 1.1
ROOM = 1.7
"""The clouds' capacity, over what all VMs take."""
PINNED, RESTRICTED, APART, MAY_MOVE, STRAYS = 0.03, 0.10, 0.02, 0.5, 0.12
Edges = Iterator[tuple[int, int, float]]
"""Sender, receiver, gigabytes in the week."""


@dataclass(frozen=True, slots=True)
class _Clouds:
    egress: NDArray[np.float64]
    """Dollars for a gigabyte from a cloud to a cloud, latency's cost included."""
    cpu: NDArray[np.float64]
    """Dollars for a vCPU an hour."""
    memory: NDArray[np.float64]
    """Dollars for a gigabyte an hour."""
    revoked: NDArray[np.float64]
    """Revocations an hour."""
    speed: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Vms:
    size: NDArray[np.int64]
    """vCPUs, gigabytes."""
    image: NDArray[np.float64]
    """Gigabytes that a move sends."""
    worth: NDArray[np.float64]
    """Dollars that a revocation costs."""
    urgency: NDArray[np.float64]


def make_instance(vms: int, clouds: int, *, seed: int, like_clouds: bool = False) -> Instance:
    """Return the same instance for the same arguments.

    With `like_clouds`, all clouds of one provider and region charge the same, as price lists say; else what is
    charged within a provider differs from cloud to cloud, and hardly any two are alike.
    """
    chance = np.random.default_rng(seed)
    there = _clouds(clouds, chance, like_clouds=like_clouds)
    bounds = _communities(vms, chance)
    traffic = _traffic(bounds, chance)
    machines = _vms(vms, chance)
    home, capacity = _home(bounds, machines.size, clouds, chance)
    away = np.arange(clouds) != home[:, None]
    allowed = _allowed(home, clouds, chance)
    pairs, sent, apart = _pairs(traffic, _strangers(bounds, home, chance))
    return Instance(
        unary=np.rint(_dollars(machines, there, home, away) * MICRODOLLARS).astype(np.int64),
        allowed=allowed,
        pairs=pairs,
        traffic=np.rint(sent * MEGABYTES).astype(np.int64),
        apart=apart,
        price=np.rint(there.egress * MICRODOLLARS / MEGABYTES).astype(np.int64),
        size=machines.size,
        capacity=capacity,
        home=home,
        machines=np.ones(vms, dtype=np.int64),
        move_limit=int(MAY_MOVE * vms),
    )


def _clouds(count: int, chance: np.random.Generator, *, like_clouds: bool) -> _Clouds:
    providers = max(2, min(count, round(count**0.6)))
    provider, region = np.arange(count) % providers, chance.integers(0, 3, count)
    spot = chance.random(count) < 0.3
    discount = np.where(spot, chance.uniform(0.25, 0.5, count), 1.0)
    cpu = chance.uniform(0.025, 0.055, providers)[provider]
    cpu = cpu * chance.uniform(0.9, 1.15, count) * discount
    leaving = chance.choice(
        [0.0, 0.05, 0.087, 0.09, 0.12], providers, p=[0.1, 0.2, 0.25, 0.25, 0.2]
    )
    inside = chance.choice([0.01, 0.02], (count, count))
    if like_clouds:
        inside = np.where(region[:, None] == region, 0.01, 0.02)
    same = provider[:, None] == provider
    egress = np.where(same, inside, leaving[provider][:, None])
    egress = egress + np.where(region[:, None] == region, 0.002, 0.012)
    np.fill_diagonal(egress, 0.0)
    often, seldom = chance.uniform(0.02, 0.1, count), chance.uniform(0.0005, 0.003, count)
    return _Clouds(
        egress=egress,
        cpu=cpu,
        memory=cpu * chance.uniform(0.1, 0.14, count),
        revoked=np.where(spot, often, seldom),
        speed=chance.uniform(0.8, 1.25, count),
    )


def _communities(vms: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """Return where each community begins, and where the last one ends."""
    largest = max(3, min(vms // 4, LARGEST_COMMUNITY))
    bounds = [0]
    while bounds[-1] < vms:
        size = int(min(largest, 2 * (1 - chance.random()) ** (-1 / POWER)))
        bounds.append(min(vms, bounds[-1] + size))
    return np.array(bounds, dtype=np.int64)


def _traffic(
    bounds: NDArray[np.int64], chance: np.random.Generator
) -> list[tuple[int, int, float]]:
    edges: list[tuple[int, int, float]] = []
    topologies = (_dense, _master_and_workers, _stencil, _three_tiers)
    for begin, end in pairwise(bounds.tolist()):
        if end - begin < 2:
            continue
        topology = topologies[int(chance.choice(len(topologies), p=[0.35, 0.25, 0.25, 0.15]))]
        scale = chance.lognormal(np.log(12), 1.3) * DAYS
        edges += [(a, b, scale * amount) for a, b, amount in topology(begin, end - begin, chance)]
    vms = int(bounds[-1])
    strangers = chance.integers(0, vms, (int(0.6 * vms), 2)).tolist()
    edges += [(a, b, chance.lognormal(np.log(1.5), 1.2) * DAYS) for a, b in strangers]
    return [edge for edge in edges if edge[0] != edge[1]]


def _dense(begin: int, size: int, chance: np.random.Generator) -> Edges:
    peers = max(1, min(size - 1, 6) // 2)
    for one in range(begin, begin + size):
        for other in (begin + chance.choice(size, peers, replace=False)).tolist():
            yield one, other, chance.lognormal(0, 0.8)
            yield other, one, chance.lognormal(-1, 0.8)


def _master_and_workers(begin: int, size: int, chance: np.random.Generator) -> Edges:
    masters = max(1, size // 40)
    for worker in range(begin + masters, begin + size):
        master = begin + int(chance.integers(masters))
        yield master, worker, chance.lognormal(0, 0.5)
        yield worker, master, 0.5 * chance.lognormal(0, 0.5)


def _stencil(begin: int, size: int, chance: np.random.Generator) -> Edges:
    width = max(1, int(np.sqrt(size)))
    for at in range(size):
        for next_to in {at + 1, at + width}:
            if next_to < size:
                yield begin + at, begin + next_to, chance.lognormal(0, 0.3)
                yield begin + next_to, begin + at, chance.lognormal(0, 0.3)


def _three_tiers(begin: int, size: int, chance: np.random.Generator) -> Edges:
    cuts = (begin, begin + max(1, size // 3), begin + max(2, 2 * size // 3), begin + size)
    tiers = [np.arange(a, b) for a, b in pairwise(cuts)]
    for front, back in pairwise(tiers):
        for one in front.tolist():
            for other in chance.choice(back, min(len(back), 3), replace=False).tolist():
                yield one, other, chance.lognormal(0, 0.7)
                yield other, one, 3 * chance.lognormal(0, 0.7)


def _vms(count: int, chance: np.random.Generator) -> _Vms:
    cpus = chance.choice([1, 2, 4, 8, 16], count, p=[0.2, 0.3, 0.25, 0.17, 0.08])
    memory = cpus * chance.choice([2, 4, 8], count, p=[0.3, 0.5, 0.2])
    hurried = chance.random(count) < 0.3
    return _Vms(
        size=np.stack([cpus, memory], 1).astype(np.int64),
        image=chance.lognormal(np.log(25), 0.8, count),
        worth=chance.lognormal(np.log(0.5), 1.0, count),
        urgency=np.where(hurried, chance.uniform(0.5, 3, count), 0.0),
    )


def _dollars(
    vms: _Vms, clouds: _Clouds, home: NDArray[np.int64], away: NDArray[np.bool_]
) -> NDArray[np.float64]:
    cpus, memory = vms.size.T[:, :, None]
    rented = HOURS * (cpus * clouds.cpu + memory * clouds.memory)
    lost = HOURS * vms.worth[:, None] * clouds.revoked
    slowness = np.maximum(0, 1 / clouds.speed - 0.9)
    late = 0.03 * HOURS * vms.urgency[:, None] * cpus * slowness
    effort = 0.3 + 0.02 * vms.image + 0.2 * vms.worth
    moved = vms.image[:, None] * clouds.egress[home] + away * effort[:, None]
    return np.asarray(rented + lost + late + moved)


def _home(
    bounds: NDArray[np.int64], size: NDArray[np.int64], clouds: int, chance: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put each community into a cloud, a few of its VMs elsewhere; return that, and the clouds' capacity."""
    share = chance.dirichlet(np.ones(clouds) * 2) + 0.3 / clouds
    capacity = np.floor(ROOM * size.sum(axis=0) * (share / share.sum())[:, None]).astype(np.int64)
    home, used = np.zeros(len(size), dtype=np.int64), np.zeros_like(capacity)
    favour = chance.dirichlet(np.ones(clouds))
    for begin, end in pairwise(bounds):
        usual = int(chance.choice(clouds, p=favour))
        for vm in range(begin, end):
            wanted = [] if chance.random() < STRAYS else [usual]
            wanted += chance.permutation(clouds).tolist()
            roomy = (k for k in wanted if (used[k] + size[vm] <= 0.97 * capacity[k]).all())
            home[vm] = next(roomy, wanted[-1])
            used[home[vm]] += size[vm]
    return home, np.maximum(capacity, used)


def _allowed(
    home: NDArray[np.int64], clouds: int, chance: np.random.Generator
) -> NDArray[np.bool_]:
    vms = len(home)
    allowed = np.ones((vms, clouds), dtype=np.bool_)
    restricted = chance.random(vms) < RESTRICTED
    allowed[restricted] = chance.random((int(restricted.sum()), clouds)) < 0.5
    allowed[chance.random(vms) < PINNED] = False
    allowed[np.arange(vms), home] = True
    return allowed


def _strangers(
    bounds: NDArray[np.int64], home: NDArray[np.int64], chance: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Choose VMs of one community that must keep apart, as they do at home."""
    for _ in range(int(APART * len(home))):
        community = int(chance.integers(len(bounds) - 1))
        begin, end = int(bounds[community]), int(bounds[community + 1])
        if end - begin >= 3:
            chosen = begin + chance.choice(end - begin, int(chance.integers(2, 4)), replace=False)
            for at, one in enumerate(chosen.tolist()):
                for other in chosen[:at].tolist():
                    if home[one] != home[other]:
                        yield one, other


def _pairs(
    traffic: list[tuple[int, int, float]], strangers: Iterator[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return pairs, the lower number first, with what they send forth and back, and who must be apart."""
    found: dict[tuple[int, int], list[float]] = {}
    for one, other, amount in traffic:
        entry = found.setdefault((min(one, other), max(one, other)), [0.0, 0.0, 0.0])
        entry[int(one > other)] += amount
    for one, other in strangers:
        found.setdefault((min(one, other), max(one, other)), [0.0, 0.0, 0.0])[2] = 1.0
    keys = sorted(found)
    told = np.array([found[key] for key in keys]).reshape(-1, 3)
    return np.array(keys, dtype=np.int64).reshape(-1, 2), told[:, :2], told[:, 2] > 0
