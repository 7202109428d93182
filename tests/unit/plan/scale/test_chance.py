"""Random numbers of kernels: the published generator's, and where they lie."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="the extra [fast]")

from transhume.plan.scale.chance import chance_of, draw, lower, share, upper


def test_words_are_those_of_splitmix64() -> None:
    chance = chance_of(1234567)
    words = [int(draw(chance)) for _ in range(3)]
    assert words == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_what_is_taken_from_words_lies_where_it_should_and_everywhere_there() -> None:
    chance = chance_of(5)
    words = [np.uint64(draw(chance)) for _ in range(500)]
    assert {int(upper(word, 7)) for word in words} == set(range(7))
    assert {int(lower(word, 7)) for word in words} == set(range(7))
    shares = [float(share(word)) for word in words]
    assert min(shares) >= 0
    assert max(shares) < 1
    assert max(shares) - min(shares) > 0.9
