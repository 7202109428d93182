"""Reading what Open MPI says: its monitoring's files, and where ranks ran."""

from pathlib import Path

import pytest

from tests.system.fidelity.mpi import Placement, ProgramFailed, check_placed, sent_payload
from tests.system.fidelity.stage import NODES, node_name

RANK_2 = """# POINT TO POINT
E\t2\t3\t4000000 bytes\t4 msgs sent\t0,0,0,4
E\t2\t2\t77 bytes\t1 msgs sent\t0,1,0,0
I\t2\t3\t500 bytes\t2 msgs sent
I\t2\t9\t8 bytes\t1 msgs sent
# OSC
S\t2\t3\t1000 bytes\t1 msgs sent
# COLLECTIVES
D\tMPI_COMM_WORLD\tprocs: 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
O2A\t2\t508 bytes\t1 msgs sent
"""


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    for rank in range(NODES):
        text = RANK_2 if rank == 2 else "# POINT TO POINT\n"
        (tmp_path / f"sent.{rank}.prof").write_text(text)
    return tmp_path / "sent"


def test_own_messages_and_those_of_collectives_add_up(sent: Path) -> None:
    """Without what a rank sends itself, and without the same bytes again as a collective operation's."""
    found = sent_payload(sent)

    assert found[2, 3] == 4_000_500
    assert found[2, 9] == 8
    assert found.sum() == 4_000_508


def test_a_rank_without_a_file_is_missed(sent: Path) -> None:
    sent.with_name("sent.5.prof").unlink()

    with pytest.raises(ProgramFailed, match=r"sent\.5\.prof"):
        sent_payload(sent)


def test_a_rank_that_ran_elsewhere_is_noticed() -> None:
    placement = Placement.drawn(1)
    lines = [f"rank {r} on {node_name(node)}" for r, node in enumerate(placement.node_of)]

    check_placed("\n".join(reversed(lines)), placement)
    with pytest.raises(ProgramFailed, match="should have run"):
        check_placed("\n".join(lines), Placement.in_order())
    with pytest.raises(ProgramFailed, match="should have run"):
        check_placed("\n".join(lines[1:]), placement)
