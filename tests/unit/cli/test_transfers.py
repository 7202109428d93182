from dataclasses import replace

from tests.unit.cli.drawing import printed
from tests.unit.cli.test_report import OUTCOME
from transhume.cli.views.plans import outcomes
from transhume.cli.views.transfers import saved
from transhume.knowledge.model import Measurement, Transfer


def test_what_was_saved_is_told_with_its_reasons_the_most_frequent_first() -> None:
    transfer = Transfer(
        raw_bytes=100 * 4096,
        wire_bytes=10 * 4096,
        zero_pages=7,
        own_pages=10,
        cluster_pages=50,
        site_pages=20,
        new_pages=20,
        new_wire_bytes=0,
    )
    told = saved(transfer)
    assert "90% saved: the cluster's 50%, the site's 20%, compression 20%, the VM's own 10%" in told
    assert told.endswith("7 zero pages")


def test_a_transfer_of_nothing_has_nothing_to_tell() -> None:
    assert saved(Transfer()).endswith("– saved: nothing")


def test_rounds_and_processor_time_are_told_with_what_was_predicted_of_them() -> None:
    measured = Measurement(
        bytes=1000, seconds=3.0, rounds=1, transfer=Transfer(raw_bytes=1000, cpu_seconds=2.5)
    )
    unforeseen = replace(OUTCOME, measured=measured)
    foreseen = replace(unforeseen, predicted=replace(OUTCOME.predicted, rounds=2, cpu_seconds=3.0))
    assert "vm1: 1 round; 2.5s CPU; 1 kB in 0 B" in printed(outcomes([unforeseen]))
    assert "vm1: 2→1 round; 3s→2.5s CPU; 1 kB in 0 B" in printed(outcomes([foreseen]))


def test_disks_that_went_along_are_told_with_what_was_predicted_of_them() -> None:
    foreseen = replace(OUTCOME, predicted=replace(OUTCOME.predicted, disk_bytes=5_000_000))
    copied = replace(foreseen, measured=Measurement(bytes=7, seconds=1, disk_bytes=2_000_000))
    uncounted = replace(copied, measured=Measurement(bytes=7, seconds=1))

    assert "vm1: disks 5 MB→2 MB" in printed(outcomes([copied]))
    assert "vm1: disks 5 MB→–" in printed(outcomes([uncounted]))
    assert "disks" not in printed(outcomes([OUTCOME]))
