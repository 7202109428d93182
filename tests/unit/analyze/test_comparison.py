"""Two matrices compared: in shape, in amount, in the order of their pairs, and in who is with whom."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from tests.unit.analyze.drawn_shapes import Weights, all_to_all, disturbed
from tests.unit.analyze.traffic import START, matrix_of
from transhume.analyze import compare, find_groups
from transhume.analyze.comparison import kendall
from transhume.knowledge.model import CommunicationMatrix, VmName


def crowds(*sizes: int) -> Weights:
    count = sum(sizes)
    weights = np.zeros((count, count))
    at = 0
    for size in sizes:
        weights[at : at + size, at : at + size] = all_to_all(size)
        at += size
    return disturbed(weights, np.random.default_rng(0), chatter=0.01) * 1e6


def named(weights: Weights, names: str, seconds: float = 1.0) -> CommunicationMatrix:
    """Return a matrix over VMs of one letter each."""
    return CommunicationMatrix.of_dense(
        weights, start=START, seconds=seconds, vms=[VmName(name) for name in names]
    )


def test_a_matrix_is_like_itself() -> None:
    matrix = matrix_of(crowds(4, 5))

    found = compare(matrix, matrix)

    assert found.cosine == pytest.approx(1.0)
    assert found.distance == 0.0
    assert found.rank_correlation == pytest.approx(1.0)
    assert found.group_agreement == 1.0
    assert (found.changed, found.only_in_first, found.only_in_second) == ((), (), ())
    assert found.shared_vms == 9


def test_twice_as_much_of_the_same_has_the_same_shape() -> None:
    found = compare(matrix_of(crowds(4, 5)), matrix_of(crowds(4, 5) * 2))

    assert found.cosine == pytest.approx(1.0)
    assert found.distance == pytest.approx(1.0, rel=1e-5)
    assert found.rank_correlation == pytest.approx(1.0, abs=1e-3)
    assert found.second_bytes_per_second == pytest.approx(2 * found.first_bytes_per_second)


def test_captures_of_different_length_compare_by_their_rates() -> None:
    weights = crowds(3, 3)

    found = compare(matrix_of(weights, seconds=1.0), matrix_of(weights * 60, seconds=60.0))

    assert found.distance == pytest.approx(0.0, abs=1e-5)


def test_nothing_in_common_is_nothing() -> None:
    one = named(np.array([[0, 5, 0], [0, 0, 0], [0, 0, 0]]), "abc")
    other = named(np.array([[0, 0, 0], [0, 0, 5], [0, 0, 0]]), "abc")

    found = compare(one, other)

    assert found.cosine == 0.0
    assert found.distance == pytest.approx(np.sqrt(2))
    assert found.rank_correlation == pytest.approx(-1.0)


def test_vms_are_the_same_by_their_names_in_whatever_rows_they_are() -> None:
    weights = crowds(3, 3)
    order = np.array([4, 2, 0, 5, 1, 3])
    permuted = named(weights[np.ix_(order, order)], "".join("abcdef"[i] for i in order))

    found = compare(named(weights, "abcdef"), permuted)

    assert found.distance == 0.0
    assert found.changed == ()


def test_vms_that_only_one_matrix_knows_are_told_and_left_out() -> None:
    one = named(crowds(3, 3), "abcdef")
    other = named(np.pad(crowds(3, 3)[:5, :5], (0, 1), constant_values=10**6), "abcdeX")

    found = compare(one, other)

    assert (found.only_in_first, found.only_in_second) == (("f",), ("X",))
    assert found.shared_vms == 5
    assert found.distance == 0.0


def test_a_vm_that_went_to_another_group_is_told_with_its_company() -> None:
    before, after = matrix_of(crowds(4, 5)), matrix_of(crowds(5, 4))

    found = compare(before, after)

    (changed,) = found.changed
    assert changed.vm == "vm4"
    assert changed.before == ("vm4", "vm5", "vm6", "vm7", "vm8")
    assert changed.after == ("vm0", "vm1", "vm2", "vm3", "vm4")
    assert 0.0 < found.group_agreement < 1.0


def test_of_a_group_that_fell_apart_the_smaller_part_has_changed_company() -> None:
    found = compare(matrix_of(crowds(9, 4)), matrix_of(crowds(6, 3, 4)))

    assert [changed.vm for changed in found.changed] == ["vm6", "vm7", "vm8"]


def test_a_vm_that_fell_silent_has_lost_its_company() -> None:
    weights = crowds(3, 3)
    silent = weights.copy()
    silent[5], silent[:, 5] = 0, 0

    found = compare(matrix_of(weights), matrix_of(silent))
    back = compare(matrix_of(silent), matrix_of(weights))

    assert [(one.vm, one.before, one.after) for one in found.changed] == [
        ("vm5", ("vm3", "vm4", "vm5"), ())
    ]
    assert [(one.vm, one.before, one.after) for one in back.changed] == [
        ("vm5", (), ("vm3", "vm4", "vm5"))
    ]


def test_groups_that_are_known_are_not_sought_again() -> None:
    one, other = matrix_of(crowds(4, 5)), matrix_of(crowds(5, 4))
    same = find_groups(one)

    assert compare(one, other, first_groups=same, second_groups=same).changed == ()


def test_silences_are_alike_and_like_nothing_else() -> None:
    silence, loud = matrix_of(np.zeros((4, 4))), matrix_of(all_to_all(4) * 1e6)

    assert compare(silence, silence).cosine == 1.0
    assert compare(silence, silence).distance == 0.0
    assert compare(silence, loud).cosine == 0.0
    assert compare(silence, loud).distance == float("inf")
    assert compare(loud, silence).distance == 1.0


@pytest.mark.parametrize("count", [2, 3, 7, 64, 100, 1000])
@pytest.mark.parametrize("values", [2, 5, 10**6])
def test_rank_correlation_is_what_scipy_says_it_is(count: int, values: int) -> None:
    random = np.random.default_rng(count)
    for _ in range(5):
        one, other = random.integers(0, values, (2, count)).astype(float)
        if len(set(one)) > 1 and len(set(other)) > 1:
            assert kendall(one, other) == pytest.approx(kendalltau(one, other).statistic)
        else:
            assert kendall(one, other) == 0.0
