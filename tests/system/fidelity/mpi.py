"""Running a program under Open MPI on the stage, and reading what Open MPI itself counted.

Owns the compiling, the launching and the truth. Ranks are started through an agent in place of ssh
(`agent.sh`), one in each node. The truth comes from Open MPI's monitoring component, which counts each message
that the point-to-point layer is asked to send: the program's own, and those that make up a collective
operation. Its files have a line for each destination of a rank, `E` for the former, `I` for the latter; their
sum is what the network has to carry. Lines about collectives follow, which would count the same bytes again.
"""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.system.fidelity.programs import Program
from tests.system.fidelity.stage import CONTROL_NETWORK, DATA_NETWORK, NODES, Stage, node_name

Square = NDArray[np.int64]
"""Payload bytes by source and destination."""

AGENT = Path(__file__).parent / "agent.sh"
TOOLS = ("mpirun", "mpicc", "ip", "unshare", "hostname")
SECONDS_AT_MOST = 60.0
_COUNTED = re.compile(r"[EI]\t(\d+)\t(\d+)\t(\d+) bytes\t\d+ msgs sent\b")
_PLACED = re.compile(r"rank (\d+) on (\S+)")


class ProgramFailed(Exception):
    """A program didn't end well, didn't end in time, or ran elsewhere than it was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where ranks run: rank `r` on node `node_of[r]`."""

    node_of: tuple[int, ...]

    @classmethod
    def drawn(cls, seed: int) -> "Placement":
        """Draw a permutation."""
        return cls(node_of=tuple(np.random.default_rng(seed).permutation(NODES).tolist()))

    @classmethod
    def in_order(cls) -> "Placement":
        """Return the placement of rank 0 on node 0, rank 1 on node 1, and so on."""
        return cls(node_of=tuple(range(NODES)))

    def by_node(self, by_rank: Square) -> Square:
        """Return a matrix of ranks as a matrix of nodes."""
        found = np.zeros_like(by_rank)
        found[np.ix_(self.node_of, self.node_of)] = by_rank
        return found


def missing_tools() -> list[str]:
    """Say which commands that this takes aren't installed."""
    return [tool for tool in TOOLS if not shutil.which(tool)]


def compiled(program: Program, into: Path) -> Path:
    """Compile a program unless it has been, and return the executable."""
    executable = into / program.name
    if not executable.exists():
        command = ["mpicc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]
        command += ["-o", str(executable), str(program.source)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return executable


async def run(
    stage: Stage, executable: Path, arguments: Sequence[str], placement: Placement, work: Path
) -> Square:
    """Run a program with its ranks placed, and return the true matrix, by rank.

    Raises:
        ProgramFailed: with what it said.
    """
    hostfile = work / "hosts"
    hosts = (node_name(node) for node in placement.node_of)
    hostfile.write_text("".join(f"{host} slots=1\n" for host in hosts))
    sent = work / "sent"
    command = (*_mpirun(hostfile, sent, work), str(executable), *arguments)
    said = await _finished(stage, ("ip", "netns", "exec", stage.hypervisor, *command))
    check_placed(said, placement)
    return sent_payload(sent)


def _mpirun(hostfile: Path, sent: Path, work: Path) -> tuple[str, ...]:
    settings = {
        "plm_rsh_agent": f"sh {AGENT}",
        "orte_tmpdir_base": str(work),
        "oob_tcp_if_include": CONTROL_NETWORK,
        "btl": "tcp,self",
        "btl_tcp_if_include": DATA_NETWORK,
        # The monitoring wraps the layer that it watches, but must be among those that may be chosen.
        "pml": "ob1,monitoring",
        "pml_monitoring_enable": "2",
        "pml_monitoring_enable_output": "3",
        "pml_monitoring_filename": str(sent),
        "mpi_yield_when_idle": "1",
    }
    options = ("--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "--map-by", "node")
    spelled = (word for name, value in settings.items() for word in ("--mca", name, value))
    return ("mpirun", *options, "--hostfile", str(hostfile), "-np", str(NODES), *spelled)


async def _finished(stage: Stage, command: Sequence[str]) -> str:
    """Run a command to its end and return what it printed; kill all ranks if it doesn't come to one."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"FIDELITY_PREFIX": stage.prefix},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS_AT_MOST):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise ProgramFailed(f"not finished after {SECONDS_AT_MOST:.0f} s: {command}") from error
    finally:
        if process.returncode is None:
            stage.kill_all()
            await process.wait()
    said = output.decode(errors="replace")
    if process.returncode != 0:
        raise ProgramFailed(f"exit status {process.returncode}: {said}")
    return said


def check_placed(said: str, placement: Placement) -> None:
    """Make sure that each rank ran where it was told: else all that follows would compare nonsense.

    Raises:
        ProgramFailed: one didn't.
    """
    seen = {int(rank): host for rank, host in _PLACED.findall(said)}
    wanted = {rank: node_name(node) for rank, node in enumerate(placement.node_of)}
    if seen != wanted:
        raise ProgramFailed(f"ranks should have run on {wanted}, but ran on {seen}: {said}")


def sent_payload(sent: Path) -> Square:
    """Add up what the ranks' monitoring files say, `SENT.RANK.prof`.

    Raises:
        ProgramFailed: a rank's file is missing.
    """
    by_rank = np.zeros((NODES, NODES), dtype=np.int64)
    for rank in range(NODES):
        file = sent.with_name(f"{sent.name}.{rank}.prof")
        if not file.exists():
            raise ProgramFailed(
                f"Open MPI's monitoring left no {file}: is the component installed?"
            )
        for source, destination, count in _COUNTED.findall(file.read_text()):
            by_rank[int(source), int(destination)] += int(count)
    np.fill_diagonal(by_rank, 0)  # what a rank sends itself never reaches the network
    return by_rank
