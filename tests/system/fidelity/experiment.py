"""One run of one program under one placement, watched: what was seen beside what was true."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.system.fidelity import measures, mpi
from tests.system.fidelity.mpi import Placement, Square
from tests.system.fidelity.programs import Program
from tests.system.fidelity.stage import Stage, node_name
from tests.system.fidelity.watching import Windows
from transhume.analyze import build_matrix, find_pattern
from transhume.knowledge.model import CommunicationMatrix, Pattern

Watch = Callable[[Stage], AbstractAsyncContextManager[Windows]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finding:
    """What a run showed."""

    program: Program
    placement: Placement
    matrix: CommunicationMatrix
    """As Transhume measured it."""
    true_by_rank: Square
    """As Open MPI counted it."""

    @property
    def true(self) -> Square:
        """The true payload bytes between VMs."""
        return self.placement.by_node(self.true_by_rank)

    @property
    def measured(self) -> Square:
        """The measured payload bytes between VMs."""
        return self.matrix.dense(self.matrix.payload_bytes).astype(np.int64)

    @property
    def wire(self) -> Square:
        """The measured bytes between VMs with all that the network added: headers and acknowledgements."""
        return self.matrix.dense().astype(np.int64)

    @property
    def error(self) -> float:
        """The relative Frobenius error of payload bytes."""
        return measures.frobenius_error(self.measured, self.true)

    @property
    def regret_bytes(self) -> int:
        """What choosing a split from the measured matrix costs beyond the best, in true bytes."""
        return measures.regret(self.measured, self.true)

    @property
    def pattern(self) -> Pattern:
        """The shape that Transhume sees."""
        return find_pattern(self.matrix)

    @property
    def ranks_in_pattern(self) -> list[int]:
        """The ranks in the order in which the pattern has the VMs that they ran on."""
        rank_on = {node_name(node): rank for rank, node in enumerate(self.placement.node_of)}
        return [rank_on[vm] for vm in self.pattern.vms]


async def observe(
    stage: Stage, program: Program, seed: int, *, watch: Watch, work: Path
) -> Finding:
    """Run a program and watch it.

    Args:
        stage: where.
        program: what.
        seed: draws the placement, and what the program leaves to chance.
        watch: how.
        work: a directory for executables, which are compiled once, and for what a run leaves behind.
    """
    placement = Placement.drawn(seed)
    executable = mpi.compiled(program, work)
    with tempfile.TemporaryDirectory(dir=work) as run:
        async with watch(stage) as windows:
            true = await mpi.run(stage, executable, program.arguments(seed), placement, Path(run))
    matrix = build_matrix(windows, stage.vms)
    return Finding(program=program, placement=placement, matrix=matrix, true_by_rank=true)
