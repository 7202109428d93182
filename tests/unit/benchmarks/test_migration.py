"""The migration benchmark, as far as it goes without a lab."""

from types import SimpleNamespace

import libvirt
import pytest

from benchmarks.bench_migration import Section, longest_pause
from benchmarks.migration.methods import PEERS, PLAIN, ZSTD, Told, _Connection
from benchmarks.migration.outside import Switches
from benchmarks.migration.scenarios import SCENARIOS
from benchmarks.migration.trial import Run
from transhume.knowledge.model import VmName

IMAGE_IN_CACHE_MIB, SYSTEM_MIB = 126, 75
"""As measured in guests: what the image takes in the page cache; the kernel, programs and what it reserves."""


def run(method: str = PLAIN, **changed) -> Run:
    values = {
        "method": method,
        "finished": True,
        "sent_bytes": 100,
        "returned_bytes": 1,
        "seconds": 1.0,
        "pauses": (0.1,),
        "told_bytes": 90,
        "qemu_cpu_seconds": 0.5,
        "gateway_cpu_seconds": 0.0,
        "prepared_bytes": 0,
        "prepared_seconds": 0.0,
    }
    return Run(**(values | changed))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_guests_have_room_for_all_that_they_hold(scenario):
    for guest in scenario.lab(12_500_000).guests:
        writer_mib = guest.writer_mib if guest.writer_bytes_per_second else 0
        held = guest.unique_mib + guest.working_set_mib + writer_mib

        assert guest.memory_mib >= held + IMAGE_IN_CACHE_MIB + SYSTEM_MIB
        assert guest.memory_mib <= 512


def test_nothing_but_migrations_crosses_the_wan():
    """Bytes are counted at the clouds' cables."""
    for scenario in SCENARIOS:
        assert [guest for guest in scenario.lab(1_250_000).guests if guest.sends] == []


def test_a_method_adds_its_flags_to_what_every_migration_is_told():
    seen = []
    domain = SimpleNamespace(migrateToURI3=lambda *told: seen.append(told), name=lambda: "vm1")
    real = SimpleNamespace(lookupByName=lambda _: domain, getHostname=lambda: "a1")
    told = Told(flags=("VIR_MIGRATE_COMPRESSED",), parameters={"compression": "zstd"})

    connection = _Connection(real, told)
    connection.lookupByName("vm1").migrateToURI3("peer", {"bandwidth": 1}, libvirt.VIR_MIGRATE_LIVE)

    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_COMPRESSED
    assert seen == [("peer", {"bandwidth": 1, "compression": "zstd"}, flags)]
    assert connection.getHostname() == "a1"
    assert connection.lookupByName("vm1").name() == "vm1"


def test_methods_that_others_are_compared_with_exist():
    assert {PLAIN, ZSTD} <= set(PEERS)


def test_a_gang_has_arrived_when_the_last_of_it_has():
    switches = Switches(running={VmName("vm1"): 3.0, VmName("vm2"): 5.0})

    assert switches.last_arrival([VmName("vm1"), VmName("vm2")]) == 5.0
    assert switches.last_arrival([VmName("vm1"), VmName("vm3")]) is None


def test_a_pause_lasts_from_the_stop_at_one_host_to_the_run_at_the_other():
    one, two = VmName("vm1"), VmName("vm2")
    switches = Switches(stopped={one: 2.5}, running={one: 3.0, two: 5.0})

    assert switches.pauses([one, two]) == (0.5, None)


def test_the_longest_pause_is_unknown_where_one_was_not_seen():
    assert longest_pause(run(pauses=(0.1, 0.4))) == 0.4
    assert longest_pause(run(pauses=(0.1, None))) is None
    assert longest_pause(run(finished=False, pauses=())) is None


def test_bytes_of_a_method_are_the_median_of_its_runs():
    runs = [run(sent_bytes=n) for n in (1, 9, 2)] + [run(ZSTD, sent_bytes=50)]
    section = Section(wan="100mbit", scenario=SCENARIOS[0], runs=tuple(runs))

    assert (section.sent(PLAIN), section.sent(ZSTD), section.sent("xbzrle")) == (2, 50, None)
