"""What takes hypervisors work to say is asked in turn, of a few VMs at a time, and never while they move."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.unit.plan.worlds import vm, world
from transhume.daemon.sampling import (
    AT_ONCE,
    DIRTY_RATE_EVERY,
    DISK_USE_EVERY,
    dirty_rates,
    disk_use,
)
from transhume.daemon.senses import Sense
from transhume.errors import DirtyRateUnknown, DiskUseUnknown
from transhume.knowledge.model import DirtyRate, DiskUse, HostName, Snapshot, VmName
from transhume.knowledge.store import Store

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = AT_ONCE + 2


class Kept:
    """A store that shows a snapshot and keeps the samples."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.shown = snapshot
        self.rates: dict[VmName, DirtyRate] = {}
        self.disks: dict[VmName, DiskUse] = {}

    def _kept(self, kind: type) -> dict[VmName, Any]:
        return self.rates if kind is DirtyRate else self.disks

    async def snapshot(self) -> Snapshot:
        return self.shown

    async def put_samples(self, kind: type, samples: Iterable[Any]) -> None:
        self._kept(kind).update((each.vm, each) for each in samples)

    async def drop_samples(self, kind: type, vms: Iterable[VmName]) -> None:
        for name in vms:
            self._kept(kind).pop(name, None)


class Stage:
    """VMs that write, and a clock."""

    def __init__(self, **rates: float | None) -> None:
        self.now = START
        self.rates = {VmName(name): rate for name, rate in rates.items()}
        known = world({"a1": [vm(name) for name in rates]}, room={"a1": 9, "b1": 9})
        self.store = Kept(known)
        self.asked: list[VmName] = []
        self._looks = self.sense().perceive(cast("Store", self.store))

    def sense(self) -> Sense:
        return dirty_rates(self.measure, lambda: self.now)

    async def measure(self, name: VmName, host: HostName, _seconds: int) -> float:
        self.asked.append(name)
        rate = self.rates[name]
        if rate is None:
            raise DirtyRateUnknown(name, host, "it is too old")
        return rate

    async def look(self) -> list[VmName]:
        self.asked = []
        await anext(self._looks)
        return self.asked


def many() -> Stage:
    return Stage(**{f"vm{number}": 1e6 * number for number in range(COUNT)})


async def test_each_vm_is_measured_in_turn_and_not_again_for_a_while() -> None:
    stage = many()
    first, second = await stage.look(), await stage.look()
    assert len(first) == AT_ONCE
    assert sorted(first + second) == sorted(stage.rates)
    assert {rate.vm: rate.bytes_per_second for rate in stage.store.rates.values()} == stage.rates


async def test_who_was_measured_longest_ago_is_next(monkeypatch) -> None:
    monkeypatch.setattr("transhume.daemon.sampling.LOOK_SECONDS", 0.0)
    stage = many()
    first = await stage.look()
    stage.now += timedelta(seconds=10)
    await stage.look()
    assert await stage.look() == []
    stage.now = START + DIRTY_RATE_EVERY
    assert await stage.look() == first


async def test_a_vm_on_its_way_is_left_alone() -> None:
    stage = Stage(vm1=1e6, vm2=2e6)
    stage.store.shown = replace(stage.store.shown, moving=frozenset((VmName("vm1"),)))
    assert await stage.look() == ["vm2"]


async def test_one_odd_sample_weighs_half() -> None:
    stage = Stage(vm1=9e6)
    busy = replace(stage.store.shown.vms[VmName("vm1")], dirty_bytes_per_second=1e6)
    stage.store.shown = replace(stage.store.shown, vms={busy.name: busy})
    await stage.look()
    assert stage.store.rates[busy.name].bytes_per_second == 5e6


async def test_a_vm_that_cant_be_measured_is_told_of_once_and_hinders_nobody() -> None:
    stage = Stage(vm1=None, vm2=2e6)
    with capture_logs() as logs:
        await stage.look()
        stage.now += DIRTY_RATE_EVERY
        await stage.look()
    assert [line["event"] for line in logs] == ["dirty_rate_unknown"]
    assert stage.store.rates.keys() == {"vm2"}


class DiskStage(Stage):
    """VMs with disks; None: nobody can tell what they hold."""

    left_alone: frozenset[str] = frozenset()

    def sense(self) -> Sense:
        return disk_use(self.held, lambda: self.now, lambda vm: vm.name not in self.left_alone)

    async def held(self, name: VmName, host: HostName) -> int:
        self.asked.append(name)
        found = self.rates[name]
        if found is None:
            raise DiskUseUnknown(name, host, "no such folder")
        return int(found)


async def test_what_disks_hold_is_asked_for_every_ten_minutes(monkeypatch) -> None:
    monkeypatch.setattr("transhume.daemon.sampling.LOOK_SECONDS", 0.0)
    stage = DiskStage(vm1=5e9, vm2=0.0)
    await stage.look()
    stage.now = START + DISK_USE_EVERY / 2
    assert await stage.look() == []
    stage.now = START + DISK_USE_EVERY
    assert await stage.look() == ["vm1", "vm2"]
    assert {each.vm: each.bytes for each in stage.store.disks.values()} == {
        "vm1": 5_000_000_000,
        "vm2": 0,
    }


async def test_the_disks_of_vms_that_move_without_them_are_left_alone() -> None:
    stage = DiskStage(vm1=5e9, vm2=1e9)
    stage.left_alone = frozenset({"vm1"})
    assert await stage.look() == ["vm2"]


async def test_who_cant_tell_what_a_disk_holds_is_told_of_and_hinders_nobody() -> None:
    stage = DiskStage(vm1=None, vm2=2e9)
    with capture_logs() as logs:
        await stage.look()
    assert [(line["event"], line["vm"]) for line in logs] == [("disk_use_unknown", "vm1")]
    assert stage.store.disks.keys() == {"vm2"}


@pytest.mark.parametrize("made", [Stage, DiskStage])
async def test_what_was_sampled_is_forgotten_with_its_vm(
    made: type[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transhume.daemon.sampling.LOOK_SECONDS", 0.0)
    stage = made(vm1=1e6, vm2=2e6)
    await stage.look()
    stage.store.shown = world({"a1": [vm("vm1")]}, room={"a1": 9, "b1": 9})
    await stage.look()
    kept = stage.store.disks if made is DiskStage else stage.store.rates
    assert kept.keys() == {"vm1"}
