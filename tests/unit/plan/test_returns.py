"""VMs that go a way again: what they sent of what they had sent the first time is expected of the next."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.plan.worlds import SMALL, moved, price, vm, world
from transhume.knowledge.model import (
    CloudName,
    Measurement,
    Outcome,
    Prediction,
    Snapshot,
    Transfer,
    VmName,
)
from transhume.plan.estimate import Estimator
from transhume.plan.settings import PlannerSettings
from transhume.policies.model import MigrationTerms, Policy

A, B, C = CloudName("a"), CloudName("b"), CloudName("c")
MOVER, OTHER = VmName("vm1"), VmName("vm2")
MEMORY, DISK = SMALL.memory_bytes, 8 * SMALL.memory_bytes
SETTINGS = PlannerSettings(memory_factor=0.7)
COPYING = Policy(name="copying", source="test", migration=MigrationTerms(copy_disks=True))


def went(
    source: str, destination: str, *, ago: float, memory: float, disks: float = 0.0
) -> Outcome:
    """Return a move by gateways, which counted so many bytes for memory and for disks."""
    of_disks = Transfer(wire_bytes=round(disks), new_pages=1)
    measured = Measurement(
        bytes=round(memory + disks),
        seconds=1.0,
        disk_bytes=round(disks),
        disks=of_disks,
        transfer=of_disks + Transfer(wire_bytes=round(memory), new_pages=1),
    )
    return moved(MOVER, ago=ago, source=source, destination=destination, measured=measured)


OUT = went("a1", "b1", ago=1000, memory=MEMORY / 2, disks=DISK / 2)
BACK = went("b1", "a1", ago=900, memory=MEMORY / 20, disks=DISK / 10)
"""90 seconds after it: a move takes ten."""


def snapshot(*outcomes: Outcome) -> Snapshot:
    """Return what is known, with the latest outcome first."""
    vms = [replace(vm(name), disk_bytes=DISK) for name in (MOVER, OTHER)]
    return world({"a1": vms}, room={"a1": 2, "b1": 2, "c1": 2}, outcomes=outcomes)


def predict(known: Snapshot, destination: CloudName = B, *, of: VmName = MOVER) -> Prediction:
    estimator = Estimator.learnt_from(known, SETTINGS, (COPYING,))
    return estimator.predict(known.vms[of], A, destination, price(destination, 3.6), 0.1)


def memory_of(found: Prediction) -> float:
    return found.bytes - found.disk_bytes


def at(known: Snapshot, later_seconds: float) -> Snapshot:
    return replace(known, at=known.at + timedelta(seconds=later_seconds - 900))


def test_a_vm_is_expected_to_send_again_what_it_sent_again_before() -> None:
    found = predict(at(snapshot(BACK, OUT), 100))

    assert memory_of(found) == pytest.approx(MEMORY / 20, rel=1e-3)
    assert found.disk_bytes == pytest.approx(DISK / 10, rel=1e-3)


def test_what_was_sent_again_says_nothing_of_first_moves() -> None:
    known = at(snapshot(BACK, OUT), 100)

    for first in (predict(known, C), predict(known, of=OTHER)):
        assert memory_of(first) == pytest.approx(MEMORY / 2, rel=1e-3)
        assert first.disk_bytes == pytest.approx(DISK / 2, rel=1e-3)


def test_as_long_as_none_was_seen_a_return_is_a_first_move() -> None:
    found = predict(at(snapshot(OUT), 100))

    assert memory_of(found) == pytest.approx(MEMORY / 2, rel=1e-3)
    assert found.disk_bytes == pytest.approx(DISK / 2, rel=1e-3)


def test_a_vm_that_was_away_for_much_longer_is_expected_to_have_changed() -> None:
    known = snapshot(BACK, OUT)

    assert memory_of(predict(at(known, 170))) == pytest.approx(MEMORY / 20, rel=1e-3)
    assert memory_of(predict(at(known, 190))) == pytest.approx(MEMORY / 2, rel=1e-3)


def test_several_returns_count_by_their_average_and_the_longest() -> None:
    again = went("a1", "b1", ago=300, memory=MEMORY / 4, disks=DISK / 10)

    found = predict(at(snapshot(again, BACK, OUT), 700))
    assert memory_of(found) == pytest.approx(MEMORY * (1 / 20 + 1 / 4) / 2, rel=1e-3)


def test_hypervisors_by_themselves_know_nothing_of_what_was_there() -> None:
    def alone(outcome: Outcome) -> Outcome:
        assert outcome.measured is not None
        return replace(outcome, measured=replace(outcome.measured, transfer=None, disks=None))

    found = predict(at(snapshot(alone(BACK), alone(OUT)), 100))
    assert memory_of(found) == pytest.approx(MEMORY / (2 * 20) ** 0.5, rel=1e-3)


def test_a_return_is_one_however_long_ago_the_first_move_was() -> None:
    """A cloud of many VMs was left, and they come back."""
    names = [VmName(f"vm{number}") for number in range(1, 61)]
    known = snapshot()
    many = replace(known, vms={name: replace(known.vms[MOVER], name=name) for name in names})
    out = [replace(OUT, vm=name) for name in names]
    back = [replace(BACK, vm=name) for name in names]
    stranger = replace(known.vms[MOVER], name=VmName("stranger"))
    told = at(replace(many, outcomes=(*back, *out)), 100)

    found = Estimator.learnt_from(told, SETTINGS, (COPYING,))
    assert found.returns.share == pytest.approx(1 / 20 / SETTINGS.memory_factor, rel=1e-3)
    first = found.predict(stranger, A, B, price(B, 3.6), 0.1)
    assert first.bytes == pytest.approx(MEMORY * SETTINGS.memory_factor, rel=1e-3)


def test_disks_that_go_along_for_the_first_time_are_no_return() -> None:
    """Gateways had carried the VM's memory that way, and left its disks where they were."""
    without = went("a1", "b1", ago=1000, memory=MEMORY / 2)
    first = went("b1", "a1", ago=900, memory=MEMORY / 20, disks=DISK / 2)

    found = predict(at(snapshot(first, without), 100))
    assert memory_of(found) == pytest.approx(MEMORY / 20, rel=1e-3)
    assert found.disk_bytes == pytest.approx(DISK / 2, rel=1e-3)


def test_returns_dont_make_a_guest_that_writes_look_as_if_it_converged() -> None:
    def by(share: float, outcome: Outcome) -> Outcome:
        """Say which share of its bytes gateways sent."""
        assert outcome.measured is not None
        thin = Transfer(raw_bytes=MEMORY, wire_bytes=int(share * MEMORY), new_pages=1)
        sent = replace(outcome.measured, transfer=thin, disks=None, disk_bytes=0)
        return replace(outcome, measured=sent)

    known = at(snapshot(by(0.01, BACK), by(0.5, OUT)), 100)
    assert Estimator.learnt_from(known, SETTINGS).thinning == pytest.approx(0.5)
