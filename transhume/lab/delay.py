"""The process that gives the lab's WAN its delay, where the kernel's netem may be missing.

Owns how it is started and where it is told of: its program, its number and what it complained of are in the
lab's state, and by its program `leftovers` knows it. What it does is in `delay.c`.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from transhume.errors import LabError
from transhume.lab.compiling import SOURCES, compile_program
from transhume.reach.netns import NAMED

PROGRAM = Path("wan/delay")
PID_FILE = Path("wan/delay.pid")
"""In the lab's state, both."""


def start_delay(state: Path, netns: str, taps: Sequence[str], *, seconds: float) -> None:
    """Make TAPs in a network namespace and pass frames between them, each so much later.

    The TAPs are there on return.

    Raises:
        LabError: it doesn't start.
    """
    program = state / PROGRAM
    program.parent.mkdir()
    compile_program(SOURCES / "delay.c", program)
    log = program.with_suffix(".log")
    with log.open("wb") as output:
        done = subprocess.run(
            [
                *("nsenter", f"--net={NAMED / netns}"),
                *(str(program), str(state / PID_FILE), str(round(seconds * 1e6)), *taps),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode != 0:
        raise LabError(f"the WAN's delay doesn't start: {log.read_text().strip()}")
