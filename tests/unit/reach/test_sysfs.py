"""Settings of network devices, in whichever namespace the thread is."""

import os
from pathlib import Path

import pytest

from transhume.reach import sysfs

_DESCRIPTORS = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def test_a_setting_is_that_of_the_callers_namespace() -> None:
    assert sysfs.read("lo", "mtu") == Path("/sys/class/net/lo/mtu").read_text("ascii").strip()


@pytest.mark.parametrize(("device", "name"), [("nosuch0", "mtu"), ("lo", "nosuch")])
def test_what_isnt_there_is_said_to_be_missing(device: str, name: str) -> None:
    before = len(list(_DESCRIPTORS.iterdir()))
    with pytest.raises(FileNotFoundError):
        sysfs.read(device, name)
    assert len(list(_DESCRIPTORS.iterdir())) == before, "descriptors"
