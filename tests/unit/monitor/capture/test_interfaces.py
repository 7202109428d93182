"""Interfaces of our own namespace, as netlink tells of them; and as other parts of the kernel do."""

import socket
from pathlib import Path

import pytest

from transhume.errors import UsageError
from transhume.monitor.capture.interfaces import Interfaces
from transhume.monitor.capture.ring import LOOPBACK


def test_all_interfaces_are_told_with_what_they_are() -> None:
    with Interfaces(None) as interfaces:
        found = interfaces.present()

    assert {(each.number, each.name) for each in found} == set(socket.if_nameindex())
    for each in found:
        hardware = Path(f"/sys/class/net/{each.name}/type")
        assert each.hardware == int(hardware.read_text("ascii"))
    assert {each.hardware for each in found if each.name == "lo"} == {LOOPBACK}


def test_nothing_went_and_our_own_namespace_stays_what_it_is() -> None:
    with Interfaces(None) as interfaces:
        assert interfaces.deleted() == set()
        assert interfaces.is_current


def test_a_namespace_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no network namespace nowhere"):
        Interfaces("nowhere")
