"""What an instance refuses to be made of, and that it stays as it was made."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.plan.scale.test_certificate import two_talkers


def test_cost_and_feasibility_are_counted_in_whole_numbers() -> None:
    instance = two_talkers()
    assert instance.cost(np.array([0, 0])) == 20
    assert instance.cost(np.array([0, 1])) == 10 + 4 + 3 * 1 + 2 * 2
    assert instance.feasible(np.array([0, 1]))
    assert not instance.feasible(np.array([1, 1]))


def test_its_arrays_can_not_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        two_talkers().home[0] = 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"pairs": np.array([[1, 0]])}, "ascending", id="order"),
        pytest.param({"price": np.array([[1, 1], [1, 0]])}, "within a cloud", id="inner price"),
        pytest.param({"traffic": np.array([[-1, 0]])}, "negative", id="negative traffic"),
        pytest.param({"unary": np.full((2, 2), 2**52)}, "larger units", id="too dear"),
        pytest.param({"capacity": np.array([[1], [1]])}, "at home", id="infeasible home"),
    ],
)
def test_what_makes_no_sense_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(two_talkers(), **changed)  # type: ignore[arg-type]
