"""Groups are found from traffic alone: planted ones of all shapes, ranks permuted, chatter between them."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from tests.unit.analyze.traffic import START, matrix_of
from transhume.analyze import find_groups
from transhume.analyze.grouping.agreement import rand_index
from transhume.analyze.grouping.condensing import EXACT_TO
from transhume.analyze.grouping.halving import cheapest_cut, halved_groups
from transhume.analyze.grouping.methods import Method, agglomerative, halving, leiden, spectral
from transhume.analyze.ties import Ties
from transhume.knowledge.model import CommunicationMatrix, MatrixSeries, VmName

Weights = NDArray[np.float64]
ROOT = Path(__file__).parents[3]
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


# --- thousands of VMs --------------------------------------------------------------------------------


def test_planted_groups_are_found_among_thousands_of_vms() -> None:
    """Connected by chatter into one part, too large for square arrays to be taken apart."""
    random = np.random.default_rng(1)
    parts = [
        planted(SHAPES[number % len(SHAPES)], int(random.integers(4, 40)), random) * 1e6
        for number in range(40)
    ]
    weights, expected = together(parts, random, 0.03)

    found = members(weights)

    assert sum(map(len, parts)) > EXACT_TO
    assert by_first(found) == by_first(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_application_of_many_hundred_vms_is_one_group(shape: str) -> None:
    count = EXACT_TO + 20
    weights = np.where(planted(shape, count, np.random.default_rng(0)) > 0, 1e6, 0.0)

    assert [len(group) for group in members(weights)] == [count]


def test_two_large_clusters_whose_head_nodes_feed_each_other_are_two_groups() -> None:
    """The strong link between them makes them one part at first: only a cut takes that apart."""
    count = EXACT_TO
    weights = np.zeros((2 * count, 2 * count))
    weights[:count, :count] = weights[count:, count:] = 1e6
    weights[0, count] = 3e6

    assert sorted(len(group) for group in members(weights)) == [count, count]


def large(seed: int, sizes: Sequence[int]) -> CommunicationMatrix:
    """Return sparse crowds, each of its VMs talking to some 20 others in it, and chatter between all."""
    random = np.random.default_rng(seed)
    bounds = np.cumsum([0, *sizes])
    source = np.repeat(np.arange(bounds[-1]), 20)
    crowd = np.searchsorted(bounds, source, side="right") - 1
    offset = (random.random(len(source)) * np.asarray(sizes)[crowd]).astype(int)
    destination = bounds[crowd] + offset
    between = random.integers(0, bounds[-1], (2, 5 * bounds[-1]))
    said = np.concatenate(
        (random.uniform(0.7e6, 1.3e6, len(source)), np.full(between.shape[1], 1e4))
    )
    return CommunicationMatrix.of_pairs(
        start=START,
        seconds=1.0,
        vms=[VmName(f"vm{i}") for i in range(bounds[-1])],
        source=np.concatenate((source, between[0])),
        destination=np.concatenate((destination, between[1])),
        bytes=said,
    )


def test_groups_found_before_are_found_again_and_their_confidence_is_how_much_of_them_was_there() -> (
    None
):
    before = find_groups(large(0, [300] * 10))
    again = find_groups(large(1, [300] * 10), previous=before)

    assert sorted(len(group.vms) for group in again) == [300] * 10
    assert {group.vms for group in again} == {group.vms for group in before}
    assert {group.confidence for group in again} == {1.0}


def test_a_group_that_fell_apart_since_is_two() -> None:
    before = find_groups(large(0, [600, 900, 900]))
    now = find_groups(large(1, [300, 300, 900, 900]), previous=before)

    assert sorted(len(group.vms) for group in now) == [300, 300, 900, 900]
    assert min(group.confidence for group in now) == pytest.approx(0.5)


# --- confidence and the choice of a method -----------------------------------------------------------


def series_of(*windows: Weights) -> MatrixSeries:
    matrices = tuple(matrix_of(window) for window in windows)
    return MatrixSeries(vms=matrices[0].vms, seconds=1.0, matrices=matrices)


def crowds(*parts: Sequence[int], count: int = 8) -> Weights:
    weights = np.zeros((count, count))
    for part in parts:
        weights[np.ix_(part, part)] = 1e6
    return weights


def test_a_group_that_stands_at_all_times_is_certain() -> None:
    window = crowds(range(4), range(4, 8))

    groups = find_groups(matrix_of(window), series_of(*[window] * 6))

    assert [group.confidence for group in groups] == [1.0, 1.0]


def test_a_group_that_was_another_for_a_part_of_the_time_is_less_certain() -> None:
    first, second = crowds((0, 1, 2), (3, 4, 5, 6, 7)), crowds((0, 1, 2), (3, 4, 5), (6, 7))
    windows = [first] * 12 + [second] * 4

    certain, doubted = sorted(
        find_groups(matrix_of(np.sum(windows, axis=0)), series_of(*windows)),
        key=lambda group: group.vms,
    )

    assert (certain.vms, certain.confidence) == (("vm0", "vm1", "vm2"), 1.0)
    assert doubted.vms == ("vm3", "vm4", "vm5", "vm6", "vm7")
    assert doubted.confidence == pytest.approx((3 + 3 / 5) / 4)


def test_a_group_that_is_silent_for_a_part_of_the_time_is_no_less_certain() -> None:
    both, one = crowds(range(4), range(4, 8)), crowds(range(4))

    groups = find_groups(matrix_of(both * 2 + one), series_of(both, one, both, one))

    assert [group.confidence for group in groups] == [1.0, 1.0]


@pytest.mark.parametrize("seed", range(8))
def test_where_the_rule_wavers_the_method_that_does_not_is_taken(seed: int) -> None:
    """So much chatter that the groups are at the very edge of what the rule calls one."""
    random = np.random.default_rng(seed)
    weights, expected = together([planted("all-to-all", 12, random) * 1e6] * 4, random, 0.25)
    ties = Ties.of_matrix(matrix_of(weights))

    by_rule = halving(ties)

    assert len(set(by_rule.tolist())) < 4
    assert by_first(members(weights)) == by_first(expected)


@pytest.mark.parametrize("method", [halving, leiden, agglomerative, spectral])
def test_each_method_finds_clear_groups(method: Method) -> None:
    random = np.random.default_rng(3)
    weights, expected = together([planted("all-to-all", 6, random) * 1e6] * 3, random, 0.03)
    silent = np.zeros((len(weights) + 1,) * 2)
    silent[:-1, :-1] = weights

    label = method(Ties.of_matrix(matrix_of(silent)))

    found = [{f"vm{i}" for i in np.flatnonzero(label == one)} for one in set(label.tolist()) - {-1}]
    assert by_first(found) == by_first(expected)
    assert label[-1] == -1


def test_whom_a_cut_leaves_without_ties_are_cut_from_each_other() -> None:
    """They were cut again and again into nobody and all of them."""
    assert 0 < cheapest_cut(np.zeros((3, 3))).side.sum() < 3
    ends = np.array(
        [(0, 1), (0, 4), (0, 8), (0, 9), (1, 12), (2, 5), (3, 7), (3, 8), (3, 12), (5, 10), (6, 7),
         (6, 11), (6, 12), (8, 10), (8, 12)]
    )  # fmt: skip
    said = [
        122960.53338318993, 20.87526387445742, 47766.22988403216, 146.94468511416423, 503705.13308069255,
        9379.120629474986, 569.9088564128375, 6708.171444819815, 278.76633510753436, 4048.045750013029,
        2491.200508431092, 1194.2672624676718, 2160.52640331919, 68368.11473181593, 1086.371155257149,
    ]  # fmt: skip
    ties = Ties.of_pairs(13, *ends.T, np.array(said))

    parts = halved_groups(ties.dense())

    assert np.sort(np.concatenate(parts)).tolist() == list(range(13))
    assert all(len(part) for part in parts)


def test_leiden_comes_to_an_end_where_communities_are_as_good_one_way_as_another() -> None:
    """igraph goes to and fro between them, and no signal gets through to it: hence a process of its own."""
    program = """
import numpy as np
from transhume.analyze.grouping.methods import leiden, modularity
from transhume.analyze.ties import Ties
ends = [(0, 2), (0, 4), (0, 5), (1, 3), (1, 4), (1, 6), (2, 3), (2, 6), (3, 4)]
ties = Ties.of_pairs(7, *np.array(ends).T, np.ones(len(ends)))
print(f"{modularity(ties, leiden(ties)):.3f}")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.stdout == "0.167\n"


def test_agreement_is_what_scikit_learn_says_it_is() -> None:
    from sklearn.metrics import adjusted_rand_score

    random = np.random.default_rng(0)
    for _ in range(50):
        one, other = random.integers(0, 4, (2, 20))
        assert rand_index(one, other) == pytest.approx(adjusted_rand_score(one, other))


def test_small_matrices_need_no_library_that_is_slow_to_import() -> None:
    """`transhume analyze` of a small capture answers at once."""
    program = """
import sys
from tests.unit.analyze.test_groups import crowds
from tests.unit.analyze.traffic import matrix_of
from transhume.analyze import find_groups, find_patterns
matrix = matrix_of(crowds(range(20), range(20, 64), count=64))
print([pattern.kind.value for pattern in find_patterns(matrix, find_groups(matrix))])
print(sorted({"scipy", "sklearn", "igraph", "pandas"} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert done.stdout.splitlines() == ["['all-to-all', 'all-to-all']", "[]"]
