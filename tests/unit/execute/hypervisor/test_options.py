"""Which ways to move a VM there are, and what libvirt is told of them."""

import libvirt
import pytest

from transhume.errors import UsageError
from transhume.execute.hypervisor.disks import Copies, DiskCopy
from transhume.execute.hypervisor.options import (
    AutoConverge,
    Compression,
    Disks,
    MigrationOptions,
)
from transhume.execute.hypervisor.parameters import MIB, flags_of, parameters_of
from transhume.execute.hypervisor.steering import Due, Steering
from transhume.execute.migration.transport import Route

NEW, OLD = 11_003_000, 9_000_000
COPIES = Copies(
    disks=(DiskCopy(target="vda", path="/i/a.qcow2", format="qcow2", capacity_bytes=MIB),)
)


def told(options: MigrationOptions, route: Route | None = None, **more: object) -> dict:
    given = {"copies": Copies(), "libvirt_version": NEW, **more}
    return parameters_of(options, route or Route(), **given)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param(
            {"post_copy_after_seconds": 1, "disks": Disks.COPY}, "post-copy", id="post-copy, disks"
        ),
        pytest.param({"compression": Compression.ZSTD}, "several channels", id="zstd, plain"),
        pytest.param(
            {"compression": Compression.XBZRLE, "channels": 2}, "exclude", id="xbzrle, channels"
        ),
        pytest.param({"time_limit_seconds": 0}, "time_limit_seconds must be above 0", id="no time"),
        pytest.param({"channels": -1}, "channels must be above 0", id="less than none"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        MigrationOptions(**options)


def test_without_options_a_guest_is_moved_live_and_slowed_if_need_be() -> None:
    assert flags_of(MigrationOptions(), Copies(), persistent=True) == (
        libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
        | libvirt.VIR_MIGRATE_AUTO_CONVERGE
        | libvirt.VIR_MIGRATE_PERSIST_DEST
        | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    )
    assert told(MigrationOptions()) == {}


def test_a_domain_that_is_not_defined_stays_so() -> None:
    flags = flags_of(MigrationOptions(auto_converge=None), Copies(), persistent=False)
    assert not flags & (libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE)
    assert not flags & libvirt.VIR_MIGRATE_AUTO_CONVERGE


def test_channels_compression_and_slowing_are_told() -> None:
    options = MigrationOptions(
        channels=3,
        compression=Compression.ZSTD,
        auto_converge=AutoConverge(initial_percent=30, increment_percent=15),
    )
    flags = flags_of(options, Copies(), persistent=False)
    assert flags & libvirt.VIR_MIGRATE_PARALLEL
    assert flags & libvirt.VIR_MIGRATE_COMPRESSED
    assert told(options) == {
        "parallel.connections": 3,
        "compression": "zstd",
        "auto_converge.initial": 30,
        "auto_converge.increment": 15,
    }


@pytest.mark.parametrize(
    ("route", "option", "expected"),
    [
        pytest.param(9 * MIB, 4 * MIB, 4, id="the option's"),
        pytest.param(3 * MIB, 4 * MIB, 3, id="the route's"),
        pytest.param(None, 100_000, 1, id="never none at all"),
    ],
)
def test_the_lower_limit_of_the_rate_holds(
    route: float | None, option: float | None, expected: int
) -> None:
    options = MigrationOptions(bytes_per_second=option)
    assert told(options, Route(bytes_per_second=route)) == {"bandwidth": expected}


def test_the_rate_to_reckon_with_is_told_only_to_those_that_take_it() -> None:
    options = MigrationOptions(switchover_bytes_per_second=5.5 * MIB)
    assert told(options) == {"bandwidth.avail.switchover": 5}
    assert told(options, libvirt_version=OLD) == {}


def test_only_the_disks_that_are_copied_are_named() -> None:
    route = Route(migrate_uri="unix:///r/ram", disks_uri="unix:///r/disks")
    options = MigrationOptions(disks=Disks.COPY)
    assert told(options, route, copies=COPIES) == {
        "migrate_uri": "unix:///r/ram",
        "disks_uri": "unix:///r/disks",
        "migrate_disks": ["vda"],
    }
    assert told(options, route) == {"migrate_uri": "unix:///r/ram"}
    whole = flags_of(options, COPIES, persistent=False)
    assert whole & libvirt.VIR_MIGRATE_NON_SHARED_DISK
    assert not whole & libvirt.VIR_MIGRATE_NON_SHARED_INC
    shallow = flags_of(options, Copies(disks=COPIES.disks, shallow=True), persistent=False)
    assert shallow & libvirt.VIR_MIGRATE_NON_SHARED_INC
    assert not shallow & libvirt.VIR_MIGRATE_NON_SHARED_DISK


def test_a_migration_is_aborted_when_its_time_is_up_and_not_before() -> None:
    steering = Steering(MigrationOptions(time_limit_seconds=10))
    assert [steering.due(seconds) for seconds in (0, 9.9, 10)] == [None, None, Due.ABORT]


def test_post_copy_is_due_until_it_is_taken_and_then_nothing_is_any_more() -> None:
    steering = Steering(MigrationOptions(post_copy_after_seconds=2, time_limit_seconds=10))
    assert [steering.due(seconds) for seconds in (1, 2, 3)] == [None, Due.POST_COPY, Due.POST_COPY]
    steering.in_post_copy = True
    assert steering.due(11) is None
