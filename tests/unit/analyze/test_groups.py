"""Groups are found from traffic alone: planted ones of all shapes, ranks permuted, chatter between them."""

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from tests.unit.analyze.traffic import matrix_of
from transhume.analyze import find_groups

Weights = NDArray[np.float64]
SHAPES = ("all-to-all", "ring", "chain", "master-worker", "butterfly", "grid")


def linked(shape: str, i: int, j: int, count: int) -> bool:
    match shape:
        case "ring":
            return (i - j) % count in (1, count - 1)
        case "chain":
            return abs(i - j) == 1
        case "master-worker":
            return 0 in (i, j)
        case "butterfly":
            return (i ^ j).bit_count() == 1
        case "grid":
            (a, b), (c, d) = divmod(i, 3), divmod(j, 3)
            return abs(a - c) + abs(b - d) == 1
        case _:
            return True


def planted(shape: str, count: int, random: Generator) -> Weights:
    links = [[i != j and linked(shape, i, j, count) for j in range(count)] for i in range(count)]
    return np.array(links) * random.uniform(0.5, 1.5, (count, count))


def together(
    parts: list[Weights], random: Generator, chatter: float
) -> tuple[Weights, list[set[str]]]:
    """Put groups into one matrix, let all talk a little to all, and permute the ranks."""
    sizes = [len(part) for part in parts]
    label = np.repeat(np.arange(len(parts)), sizes)
    count = len(label)
    weights = np.zeros((count, count))
    for number, part in enumerate(parts):
        members = np.flatnonzero(label == number)
        weights[np.ix_(members, members)] = part
    own = weights.sum(axis=1)
    between = random.exponential(1.0, (count, count)) * (label[:, None] != label[None, :])
    weights = weights + between * np.minimum.outer(own, own) * chatter / count
    order = random.permutation(count)
    label = label[order]
    expected = [{f"vm{i}" for i in np.flatnonzero(label == n)} for n in range(len(parts))]
    return weights[np.ix_(order, order)], expected


def members(weights: Weights) -> list[set[str]]:
    return [set(group.vms) for group in find_groups(matrix_of(weights))]


def by_first(groups: list[set[str]]) -> list[list[str]]:
    return sorted(sorted(group) for group in groups)


@pytest.mark.parametrize("seed", range(40))
def test_planted_groups_are_found_among_chatter(seed: int) -> None:
    """Two to forty VMs, one to eight groups of any shape and at any rate, 1 to 5 % of chatter."""
    random = np.random.default_rng(seed)
    parts: list[Weights] = []
    for _ in range(int(random.integers(1, 9))):
        size = int(random.integers(2, 12))
        if sum(map(len, parts)) + size <= 40:
            rate = 10 ** random.uniform(3, 7)
            parts.append(planted(str(random.choice(SHAPES)), size, random) * rate)
    weights, expected = together(parts, random, random.uniform(0.01, 0.05))

    assert by_first(members(weights)) == by_first(expected)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 16, 40])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_application_is_one_group_however_many_vms_it_has(shape: str, count: int) -> None:
    weights = np.where(planted(shape, count, np.random.default_rng(0)) > 0, 1e6, 0.0)

    assert [len(group) for group in members(weights)] == [count]


@pytest.mark.parametrize("seed", range(10))
def test_a_blob_in_which_all_talk_at_random_is_one_group(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(3, 41))

    assert len(members(random.exponential(1e6, (count, count)))) == 1


def test_two_clusters_whose_head_nodes_feed_each_other_are_two_groups() -> None:
    """One link is as strong as any within; cutting it is cheap all the same."""
    weights = np.zeros((16, 16))
    weights[:8, :8] = weights[8:, 8:] = 1e6
    weights[0, 8] = 3e6

    assert by_first(members(weights)) == by_first(
        [{f"vm{i}" for i in range(8)}, {f"vm{i}" for i in range(8, 16)}]
    )


def test_silent_vms_and_those_that_talk_only_to_themselves_are_in_no_group() -> None:
    weights = np.zeros((5, 5))
    weights[0, 1] = 1e6
    weights[2, 2] = 1e9

    assert members(weights) == [{"vm0", "vm1"}]


def test_a_silence_has_no_groups() -> None:
    assert find_groups(matrix_of(np.zeros((4, 4)))) == ()
    assert find_groups(matrix_of(np.zeros((0, 0)))) == ()


def test_a_group_tells_what_stays_inside_and_what_leaves() -> None:
    weights = np.zeros((4, 4))
    weights[0, 1], weights[1, 0] = 600, 400
    weights[2, 3] = 5000
    weights[1, 2] = 10

    busy, quiet = find_groups(matrix_of(weights, seconds=2.0))

    assert (busy.id, busy.vms) == ("g-vm2", ("vm2", "vm3"))
    assert quiet.internal_bytes_per_second == pytest.approx(500)
    assert quiet.external_bytes_per_second == pytest.approx(5)
    assert quiet.cohesion == pytest.approx(500 / 505)


def test_members_are_in_the_order_in_which_people_count() -> None:
    weights = np.zeros((12, 12))
    weights[10, 9] = weights[9, 2] = 100

    (group,) = find_groups(matrix_of(weights))

    assert group.vms == ("vm2", "vm9", "vm10")
    assert group.id == "g-vm2"


def test_the_same_traffic_gives_the_same_groups_whatever_the_order_of_the_rows() -> None:
    random = np.random.default_rng(5)
    parts = [planted("ring", 7, random), planted("all-to-all", 5, random) * 50]
    weights, _ = together(parts, random, 0.03)
    weights *= 1e6
    order = random.permutation(12)
    named = {i: f"vm{order[i]}" for i in range(12)}

    permuted = [
        {named[int(name[2:])] for name in group} for group in members(weights[np.ix_(order, order)])
    ]

    assert by_first(permuted) == by_first(members(weights))
