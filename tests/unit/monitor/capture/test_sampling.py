"""How much is looked at, and what the whole was by that: arithmetic, without any capture."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from transhume.knowledge.model import PairTraffic, TrafficWindow
from transhume.knowledge.model.addresses import Endpoint
from transhume.knowledge.model.names import MacAddress
from transhume.monitor.capture.sampling import (
    CALM_WINDOWS,
    SMALLEST_SHARE,
    Budget,
    estimated,
    merged,
    spread_squares,
    standard_error,
)

START = datetime(2030, 1, 1, tzinfo=UTC)
ONE, OTHER = (
    Endpoint(mac=MacAddress("52:54:00:00:00:01")),
    Endpoint(mac=MacAddress("52:54:00:00:00:02")),
)


def window(number: int = 0, *, cpu: float = 0.0, sampled: float = 1.0) -> TrafficWindow:
    found = TrafficWindow.of_pairs(
        start=START + timedelta(seconds=number), seconds=1.0, capture_point="h/vnet0"
    )
    return replace(found, capture_cpu_seconds=cpu, sampled=sampled)


def shares(budget: Budget, costs: Iterable[float]) -> list[float]:
    """Let windows cost so much when all frames are looked at, and less with less; two windows' delay."""
    found = [budget.share, budget.share]
    for number, cost in enumerate(costs):
        sampled = found[number]
        found.append(budget.account([window(number, cpu=cost * sampled, sampled=sampled)]))
    return found[2:]


def test_within_the_budget_everything_is_looked_at() -> None:
    assert shares(Budget(0.1), [0.09] * 10) == [1.0] * 10


def test_over_the_budget_the_share_falls_to_what_it_allows_and_stays_there() -> None:
    found = shares(Budget(0.1), [0.4] * 12)

    assert found[0] == 1.0  # a window is over when the next one begins
    assert found[1:] == [pytest.approx(0.25)] * 11


def test_after_a_burst_everything_is_looked_at_again_by_and_by() -> None:
    found = shares(Budget(0.1), [0.4] * 4 + [0.01] * 40)

    assert min(found) == pytest.approx(0.25)
    assert found[-1] == 1.0
    assert found.count(0.5) > CALM_WINDOWS
    assert sorted(found[4:]) == found[4:]


def test_traffic_at_the_edge_of_the_budget_does_not_make_the_share_swing() -> None:
    found = shares(Budget(0.1), [0.15, 0.11] * 20)

    assert len(set(found[4:])) == 1


def test_the_share_never_falls_to_nothing() -> None:
    assert shares(Budget(1e-9), [0.5] * 4)[-1] == SMALLEST_SHARE


def test_all_interfaces_spend_from_one_budget() -> None:
    budget = Budget(0.1)
    budget.account([window(0, cpu=0.1), window(0, cpu=0.1)])

    assert budget.account([window(1)]) == pytest.approx(0.5)


def test_estimates_are_unbiased_and_their_error_is_as_large_as_they_vary() -> None:
    random = np.random.default_rng(1)
    lengths = random.choice([66, 1514], 2000)
    share = 0.1
    found = []
    errors = []
    for _ in range(400):
        seen = lengths[random.random(len(lengths)) < share]
        found.append(int(estimated(np.array([seen.sum()]), share)[0]))
        errors.append(float(standard_error(np.array([(seen**2).sum()]), share)[0]))

    assert np.mean(found) == pytest.approx(lengths.sum(), rel=0.02)
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.15)


def test_all_frames_make_no_error() -> None:
    assert estimated(np.array([5], np.uint64), 1.0).tolist() == [5]
    assert standard_error(np.array([25]), 1.0).tolist() == [0.0]


def test_squares_are_spread_by_mean_lengths_and_add_up() -> None:
    bytes_, frames = np.array([1000, 3000, 0]), np.array([10, 10, 0])

    found = spread_squares(bytes_, frames, 2_000_000.0)

    assert found.sum() == pytest.approx(2_000_000)
    assert found[1] == pytest.approx(9 * found[0])
    assert spread_squares(bytes_[:0], frames[:0], 0.0).tolist() == []


def test_parts_of_a_window_become_one_with_each_pair_once() -> None:
    pair = PairTraffic(source=ONE, destination=OTHER, bytes=100, frames=2, payload_bytes=30)
    back = PairTraffic(source=OTHER, destination=ONE, bytes=7, frames=2)
    whole = TrafficWindow.of_pairs(
        [pair], start=START, seconds=1.0, capture_point="p", dropped_frames=1
    )
    part = TrafficWindow.of_pairs([back, pair], start=START, seconds=1.0, capture_point="p")
    part = replace(part, sampled=0.5, bytes_error=np.array([3.0, 4.0]))

    found = merged([whole, part])

    counts = {each.source: (each.bytes, each.payload_bytes, each.frames) for each in found.pairs}
    assert counts == {ONE: (200, 60, 4), OTHER: (7, 0, 2)}
    assert found.dropped_frames == 1
    assert found.bytes_error is not None
    assert sorted(found.bytes_error.tolist()) == [3.0, 4.0]
    assert found.sampled == pytest.approx((2 + 4 * 0.5) / 6)
    assert merged([whole]) is whole
