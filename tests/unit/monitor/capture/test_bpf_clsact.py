"""Whose filter it is: what tells a dead process's leftovers from the living and from strangers."""

import subprocess
import sys
from dataclasses import replace

import pytest

from transhume.monitor.capture.bpf.clsact import Owner


def test_a_filters_name_says_whose_it_is_and_who_brought_clsact() -> None:
    owner = Owner.this_process()

    assert Owner.of_filter(owner.filter_name(brought_clsact=True)) == (owner, True)
    assert Owner.of_filter(owner.filter_name(brought_clsact=False)) == (owner, False)


@pytest.mark.parametrize(
    "name",
    ["", "cilium", "transhume", "transhume:1:2:3", "transhume:1:2:3:x", "other:1:2:3:0"],
)
def test_a_strangers_filter_is_nobodys_we_know(name: str) -> None:
    assert Owner.of_filter(name) is None


def test_the_living_are_not_dead() -> None:
    assert not Owner.this_process().is_dead


def test_a_process_that_ended_is_dead_and_so_is_one_whose_number_another_has() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    owner = Owner.this_process()

    assert replace(owner, pid=ended.pid).is_dead
    assert replace(owner, started=owner.started - 1).is_dead


def test_what_lives_in_another_container_is_not_known_to_be_dead() -> None:
    owner = Owner.this_process()

    assert not replace(owner, pid_namespace=owner.pid_namespace + 1, started=1).is_dead
