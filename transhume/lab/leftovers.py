"""What is left of a lab, however it ended, and its removal.

Owns the proof: a process is the lab's when its root directory is a cloud's, when its program is a file of the
lab's state, or when it is on its way to either (its command line names such a file). Whoever merely looks into
a namespace of the lab is not.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from transhume.errors import LabError
from transhume.lab import agents
from transhume.lab.delay import PROGRAM
from transhume.lab.gateways import CONFIGURATION
from transhume.lab.network import lab_namespaces, remove_network
from transhume.lab.spec import RECORD
from transhume.reach.netns import NAMED

_PATIENCE_S = 10.0


def find_processes(state: Path) -> tuple[int, ...]:
    """Name the processes of a lab whose state is in `state`."""
    namespaces = {(NAMED / name).stat().st_ino for name in lab_namespaces()}
    return tuple(pid for pid in _all_processes() if _is_ours(pid, state, namespaces))


def remove_everything(state: Path) -> None:
    """End the lab's processes and remove its namespaces and its state; nothing there is no mistake.

    Raises:
        LabError: a process doesn't die, or `state` isn't a lab's directory.
    """
    entries = list(state.iterdir()) if state.exists() else []
    if entries and not (state / RECORD).exists():
        raise LabError(f"{state} isn't a lab's directory; it is left as it is")
    _end_processes(state)
    remove_network()
    _remove_state(state)


def _remove_state(state: Path) -> None:
    """Remove the directory, the record last: so that an interrupted removal can be repeated."""
    if not state.exists():
        return
    for entry in state.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != RECORD:
            entry.unlink()
    shutil.rmtree(state)


def _end_processes(state: Path) -> None:
    # Guests have no disk to save and a daemon must not see them die one by one: no farewells.
    deadline = time.monotonic() + _PATIENCE_S
    while processes := find_processes(state):
        if time.monotonic() > deadline:
            raise LabError(f"processes {', '.join(map(str, processes))} of the lab don't die")
        for pid in processes:
            _kill(pid)
        time.sleep(0.05)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it was quicker


def _all_processes() -> Iterator[int]:
    me = os.getpid()
    return (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and int(p.name) != me)


def _is_ours(pid: int, state: Path, namespaces: set[int]) -> bool:
    process = Path("/proc", str(pid))
    try:
        root = (process / "root").readlink()
        if root == Path("/"):
            return _runs_from(process, state) or _is_entering(process, state)
        return root.is_relative_to(state) or (process / "ns/net").stat().st_ino in namespaces
    except OSError:
        return False  # it has just ended


def _runs_from(process: Path, state: Path) -> bool:
    """Say whether a process runs a program that the lab has built: what delays the WAN."""
    return (process / "exe").readlink().is_relative_to(state)


def _is_entering(process: Path, state: Path) -> bool:
    """Say whether a process is one of the lab's own programs, or is about to become one."""
    words = [os.fsdecode(word) for word in (process / "cmdline").read_bytes().split(b"\0")[:-1]]
    script = Path(words[-1]) if words else Path()
    if words and Path(words[0]).name == "nsenter":
        return str(state / PROGRAM) in words or script.name == CONFIGURATION
    ours = ("enter.sh", CONFIGURATION, agents.CONFIGURATION, agents.KNOWLEDGE)
    return script.name in ours and script.is_relative_to(state)
