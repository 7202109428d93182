"""Live moves of a real guest round three clouds, under traffic from everywhere; `TEST_EFFORT=50` for 200 moves.

Every connection lives through all of them with each of its bytes checked, nothing comes twice, and bystanders
see nothing that isn't for them.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest

from benchmarks.overlay.moves import joined, lab_spec, next_cloud, opened_mover
from benchmarks.overlay.stand import Cadence
from benchmarks.overlay.trial import Move, faults
from benchmarks.overlay.ways import OURS, WAYS
from tests.effort import examples
from tests.system.conftest import Labs
from tests.system.running import assert_nothing_was_lost
from transhume.knowledge.model import CloudName
from transhume.lab.lab import Lab
from transhume.lab.probes import Talk
from transhume.lab.spec import LabSpec, address_of

WAY = OURS
MOVES = examples(2)
"""At each round trip."""

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
    pytest.mark.timeout(900 + 60 * MOVES),
]


def with_a_mate(round_trip_seconds: float) -> LabSpec:
    """The guest that moves, and one that stays in the third cloud; they talk to each other."""
    spec = lab_spec(round_trip_seconds, guests=2)
    one, two = spec.guests
    one = replace(one, sends={address_of(2): 50_000})
    two = replace(two, sends={address_of(1): 50_000}, cloud=CloudName("c"))
    return replace(spec, guests=(one, two))


@pytest.fixture(scope="module", params=[0.02, 0.1], ids=["20 ms", "100 ms"])
def lab(request: pytest.FixtureRequest, labs: Labs) -> Iterator[Lab]:
    labs.end()
    try:
        yield labs.get(with_a_mate(request.param))
    finally:
        labs.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the probes saw, and how the conversations had fared at the end."""

    moves: tuple[Move, ...]
    talks: Mapping[str, Talk]


@pytest.fixture(scope="module")
def seen(lab: Lab) -> Seen:
    """Move the guest round all clouds, again and again."""
    return asyncio.run(moved(lab))


async def moved(lab: Lab) -> Seen:
    async with WAYS[WAY](lab) as way, opened_mover(lab, Cadence()) as mover:
        async with joined(way, mover), mover.stand.talking():
            moves = [await mover.move(WAY, way, next_cloud(mover)) for _ in range(MOVES)]
            talks = await mover.stand.end_talks()
            await asyncio.to_thread(assert_nothing_was_lost, lab)
    return Seen(moves=tuple(moves), talks=talks)


def test_every_connection_survives_with_every_byte_right(seen: Seen) -> None:
    assert [wrong for move in seen.moves for wrong in move.broken] == []
    assert tuple(faults(seen.talks)) == ()
    assert all(talk.echoed == talk.sent > 0 for talk in seen.talks.values())


def test_nothing_comes_twice(seen: Seen) -> None:
    assert [view for move in seen.moves for view in move.views if view.duplicates] == []


def test_nothing_is_flooded(seen: Seen) -> None:
    assert [(move.flooded, move.flooded_others) for move in seen.moves] == [(0, 0)] * MOVES
