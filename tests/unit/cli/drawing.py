"""Draws for the tests of what is drawn: matrices of groups, what a terminal shows, what a reader sees."""

import io
import re

import numpy as np
from rich.console import Console

from tests.unit.analyze.traffic import matrix_of
from transhume.analyze import find_groups
from transhume.cli.views.report import (
    ReportData,
)
from transhume.knowledge.model import (
    CommunicationMatrix,
)


def clusters(count: int, size: int) -> CommunicationMatrix:
    """Return groups of VMs that talk among themselves, dealt out to the rows in turn."""
    member = np.arange(count * size) % count
    weights = np.where(member[:, None] == member[None, :], 1e6, 0.0)
    np.fill_diagonal(weights, 0.0)
    return matrix_of(weights, seconds=2.0)


def printed(*shown: object, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=200, force_terminal=colour, color_system="truecolor" if colour else None
    )
    for one in shown:
        console.print(one)
    return out.getvalue()


def report_data(matrix: CommunicationMatrix) -> ReportData:
    return ReportData(title="tap0", subtitle="", matrix=matrix, groups=find_groups(matrix))


def words(html: str) -> str:
    """Return what a reader sees."""
    body = html.partition("<body>")[2]
    seen = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", seen).split())
