"""The matrix seen at the taps beside what Open MPI counted: real programs, ranks placed at random.

Nothing of Transhume's runs beside the ranks or knows that they are there: it captures at the hypervisor. The
truth is Open MPI's own monitoring. docs/fidelity.md says what is measured and what came of it.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.system.fidelity.experiment import Finding, observe
from tests.system.fidelity.measures import frobenius_error, regret
from tests.system.fidelity.mpi import missing_tools
from tests.system.fidelity.programs import KIB, PROGRAMS, Program
from tests.system.fidelity.stage import NODES, Stage, built_stage
from tests.system.fidelity.watching import by_files, has_tcpdump, live
from transhume.deployment.model import CaptureMethod

MISSING = missing_tools()
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"{', '.join(MISSING)} missing; apt-get install openmpi-bin libopenmpi-dev",
    ),
]

ERROR_AT_MOST = 0.05
MESSAGE_HEADER_BYTES = 22
"""What Open MPI 4.1 puts before a message that it sends at once, over TCP."""
SEEDS = (1, 2)
NAMED = {program.name: program for program in PROGRAMS}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with built_stage() as built:
        yield built


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fidelity")


def check(finding: Finding) -> None:
    """Hold a finding to what is promised of each."""
    assert finding.matrix.dropped_frames == 0
    assert finding.error < ERROR_AT_MOST
    assert finding.regret_bytes == 0
    assert finding.pattern.kind == finding.program.pattern


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
async def test_the_matrix_seen_at_the_taps_is_the_one_that_open_mpi_counted(
    program: Program, seed: int, stage: Stage, work: Path
) -> None:
    """Payload bytes within 5 %, the pattern's name, and no regret over a split chosen from what was seen."""
    finding = await observe(stage, program, seed, watch=live, work=work)

    check(finding)
    beyond = finding.measured - finding.true  # headers of Open MPI's; nothing is missing
    assert (beyond >= 0).all()
    assert finding.matrix.to_outside.sum() == finding.matrix.from_outside.sum() == 0


@pytest.mark.parametrize("method", [CaptureMethod.CLSACT, CaptureMethod.RING])
async def test_the_same_holds_for_other_methods_of_capture(
    method: CaptureMethod, stage: Stage, work: Path
) -> None:
    """Where the kernel is older, or lets nobody run programs in it."""
    watch = partial(live, method=method)
    check(await observe(stage, NAMED["master_worker"], 3, watch=watch, work=work))


@pytest.mark.skipif(not has_tcpdump(), reason="needs tcpdump")
async def test_the_same_holds_for_files_that_tcpdump_wrote_at_the_taps(
    stage: Stage, work: Path
) -> None:
    """Sixteen files, cut to the headers; each frame is in two of them."""
    watch = partial(by_files, work=work)
    check(await observe(stage, NAMED["halo"], 3, watch=watch, work=work))


async def test_the_ranks_places_are_found_again_behind_the_permutation(
    stage: Stage, work: Path
) -> None:
    """A pattern is more than its name: who comes after whom, and who is the master."""
    ring = await observe(stage, NAMED["ring"], 6, watch=live, work=work)
    halo = await observe(stage, NAMED["halo"], 6, watch=live, work=work)
    master_worker = await observe(stage, NAMED["master_worker"], 6, watch=live, work=work)

    round_the_ring = np.diff(ring.ranks_in_pattern, append=ring.ranks_in_pattern[0]) % NODES
    assert set(round_the_ring) in ({1}, {NODES - 1})
    rows = np.array(halo.ranks_in_pattern).reshape(4, 4)
    assert any((rows == seen).all() for seen in views_of_a_grid())
    assert master_worker.ranks_in_pattern[0] == 0


def views_of_a_grid() -> list[NDArray[np.int64]]:
    """Return the grid of ranks as it is seen from each corner, along rows and along columns."""
    grid = np.arange(NODES).reshape(4, 4)
    turned = [np.rot90(grid, quarters) for quarters in range(4)]
    return [*turned, *(view.T for view in turned)]


async def test_what_is_seen_beyond_small_messages_is_the_header_that_open_mpi_puts_on_each(
    stage: Stage, work: Path
) -> None:
    """Not a byte is lost or counted twice; what TCP sends again, on a machine that is busy, crossed twice."""
    talkative = replace(NAMED["ring"], message_bytes=256, rounds=1000)

    finding = await observe(stage, talkative, 4, watch=live, work=work)

    links = finding.true > 0
    header_bytes = (finding.measured - finding.true)[links] / talkative.rounds
    assert header_bytes.min() >= MESSAGE_HEADER_BYTES
    assert header_bytes.min() < MESSAGE_HEADER_BYTES + 0.5  # the greeting of a connection
    assert header_bytes.max() < 2 * MESSAGE_HEADER_BYTES
    assert finding.error > ERROR_AT_MOST


async def test_a_matrix_with_the_ranks_in_the_wrong_places_is_told_from_the_true_one(
    stage: Stage, work: Path
) -> None:
    """The comparison can fail: who forgets the permutation is far off, and would choose another split."""
    halo = replace(NAMED["halo"], message_bytes=64 * KIB)
    finding = await observe(stage, halo, 5, watch=live, work=work)

    assert finding.error < ERROR_AT_MOST
    assert frobenius_error(finding.measured, finding.true_by_rank) > 0.5
    assert regret(finding.measured, finding.true_by_rank) > 0
