"""A long game against the guarantee: `python -m tests.property.thrash --rounds 10000`.

The same adversary as in `test_no_thrash`, drawing at random, which goes where shrinkable examples don't:
through days of prices that jump, clouds that are taken back and moves that fail.
"""

import argparse
from random import Random

from rich.progress import track

from tests.property.restless_world import CLOUDS, PAIRS, RestlessWorld
from transhume.knowledge.model import MoveKind


def tight_world() -> RestlessWorld:
    """Return a world in which two clouds are full and the third is small: VMs swap by way of it."""
    return RestlessWorld(
        host_of={"vm1": "a1", "vm2": "a1", "vm3": "b1", "vm4": "b1"}, room={"a": 2, "b": 2, "c": 1}
    )


def play(
    *, rounds: int, seed: int, shown: bool = False, world: RestlessWorld | None = None
) -> RestlessWorld:
    """Play so many rounds; an AssertionError says that the guarantee fell."""
    chance, world = Random(seed), world or RestlessWorld()
    every = track(range(rounds), "playing") if shown else range(rounds)
    for _ in every:
        for _ in range(chance.randrange(1, 4)):
            _do_something(world, chance)
        world.round()
    return world


def _do_something(world: RestlessWorld, chance: Random) -> None:
    match chance.randrange(12):
        case 0 | 1 | 2:
            dollars = 10 ** chance.uniform(-2.5, 0.5)
            world.set_price(chance.choice(CLOUDS), dollars, chance.choice((0.0, 0.02, 0.5)))
        case 3 | 4:
            world.set_traffic(chance.choice(PAIRS), chance.choice((0.0, 1e3, 1e6, 5e7)))
        case 5 if len(world.notices) < len(CLOUDS) - 1:
            world.revoke(chance.choice(CLOUDS), chance.choice((5.0, 60.0, 600.0)))
        case 6 | 7:
            world.withdraw(chance.choice(CLOUDS))
        case 8:
            world.failing = chance.random() < 0.3
        case _:
            world.wait(10 ** chance.uniform(0, 3.8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tight", action="store_true", help="with clouds that are full")
    asked = parser.parse_args()
    start = tight_world() if asked.tight else None
    world = play(rounds=asked.rounds, seed=asked.seed, shown=True, world=start)
    kinds = {kind: sum(m.done and m.kind is kind for m in world.moves) for kind in MoveKind}
    failed = sum(not move.done for move in world.moves)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    print(
        f"{world.rounds} rounds, {told} moves, {failed} that failed, {world.parked} by way of a "
        f"berth, {len(world.taken_back)} plans taken back: the guarantee stands"
    )


if __name__ == "__main__":
    main()
