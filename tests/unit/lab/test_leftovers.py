"""What is left of a lab: whose it is, and what is never touched."""

import os
import shutil
import subprocess

import pytest

from transhume.errors import LabError
from transhume.lab.leftovers import find_processes, remove_everything


def test_a_directory_that_is_no_labs_is_never_removed(tmp_path):
    precious = tmp_path / "thesis.tex"
    precious.write_text("ten years of work")

    with pytest.raises(LabError, match="isn't a lab's directory"):
        remove_everything(tmp_path)

    assert precious.exists()


def test_whoever_merely_names_the_state_is_no_process_of_the_lab(tmp_path):
    reader, writer = os.pipe()
    child = os.posix_spawnp(
        "cat",
        ["cat", str(tmp_path / "lab.json"), "-"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)],
    )
    try:
        assert child not in find_processes(tmp_path)
    finally:
        os.close(reader)
        os.close(writer)
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_program_that_the_lab_has_built_is_a_process_of_the_lab(tmp_path):
    """What delays the WAN runs in no cloud: it would be missed otherwise, wherever `up` was killed."""
    program = tmp_path / "wan/delay"
    program.parent.mkdir()
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "60"]) as child:
        try:
            assert child.pid in find_processes(tmp_path)
            assert child.pid not in find_processes(tmp_path / "other")
        finally:
            child.kill()
