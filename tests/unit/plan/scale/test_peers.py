"""The benchmark's peers: what they say is recounted, and what they can't say is a row of its own."""

import numpy as np
import pytest

from benchmarks.instances import make_instance
from benchmarks.plan_peers import PEERS, Peer, add_missing, ask, installed, new_table
from benchmarks.plan_rivals import permitted


@pytest.fixture
def highs() -> Peer:
    return next(peer for peer in PEERS if peer.name == "highs")


def test_a_peers_answer_comes_with_its_gap(highs: Peer) -> None:
    answer = ask(highs, vms=8, clouds=3, seed=1, seconds=10.0, gap=lambda cost: cost / 1e9)

    assert answer.cost is not None
    assert answer.gap == answer.cost / 1e9
    assert answer.note == "optimal"


def test_a_peer_that_fails_has_no_answer_and_a_reason() -> None:
    unknown = Peer(name="nobody", shown="nobody", module="scipy", package="scipy", seconds=1.0)

    answer = ask(unknown, vms=8, clouds=3, seed=1, seconds=1.0, gap=lambda cost: cost / 1e9)

    assert (answer.cost, answer.gap) == (None, None)
    assert answer.note


def test_a_peer_that_isnt_installed_is_a_row_that_says_so() -> None:
    missing = Peer(name="x", shown="x", module="no_such_module_here", package="no-such-package")
    table = new_table()

    assert not installed(missing)
    add_missing(table, "8x3", missing)
    assert table.row_count == 1


def test_a_partition_is_brought_to_where_vms_may_be() -> None:
    instance = make_instance(60, 6, seed=2)
    everybody_in_one = np.zeros(instance.vm_count, dtype=np.int64)

    found = permitted(instance, everybody_in_one)

    assert instance.allowed[np.arange(instance.vm_count), found].all()
    one, other = found[instance.pairs[instance.apart]].T
    assert (one != other).all()
