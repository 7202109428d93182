"""Recognition: ask each shape how well it fits, and take the best.

VMs come in any order, with chatter among them: each shape looks at the heaviest links, as many as it would
have, and says whether they are exactly it (`lines`, `grids`, `cubes`), or how nearly (`hubs`, `crowds`). A
score is the share of the bytes that the shape's links carry, times how evenly they carry it where the shape
says that they should. Few VMs can have several shapes at once; then this is the name:

- two VMs are a pair;
- three: all-to-all where each two talk, unless it goes round one way (ring); in a line, a master with two
  workers unless it flows through (pipeline);
- four in a circle: a ring; a butterfly where one of the two directions is noticeably louder;
- a hypercube of 8 or 16: a butterfly, or a grid with periodic borders: see `cubes`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.patterns.crowds import all_to_all, all_to_all_in_steps
from transhume.analyze.patterns.cubes import butterfly
from transhume.analyze.patterns.flow import Flow, Shape
from transhume.analyze.patterns.grids import grid
from transhume.analyze.patterns.hubs import master_worker
from transhume.analyze.patterns.lines import pairs, pipeline, ring
from transhume.knowledge.model import (
    CommunicationMatrix,
    Group,
    GroupId,
    Pattern,
    PatternKind,
    VmName,
)

SHAPES = (
    all_to_all,
    pairs,
    pipeline,
    ring,
    butterfly,
    grid,
    all_to_all_in_steps,
)
FITS = 0.5
"""Below this score a shape explains too little to give the traffic its name."""
CLEAR = 0.8
"""From this score on, an all-to-all leaves too little to any other shape to ask for it."""


def find_pattern(matrix: CommunicationMatrix, vms: Sequence[VmName] | None = None) -> Pattern:
    """Return the shape of the traffic among some VMs, or among all.

    The pattern's VMs are those that take part, in the order of the shape; where there is none, those asked
    about in their order, and the score says how far the best shape is from fitting.
    """
    asked = matrix.vms if vms is None else tuple(vms)
    row_of = {vm: row for row, vm in enumerate(matrix.vms)}
    row = np.full(len(matrix.vms), -1, dtype=np.intp)
    row[[row_of[vm] for vm in asked]] = np.arange(len(asked))
    source, destination = row[matrix.source], row[matrix.destination]
    inside = (source >= 0) & (destination >= 0)
    return _recognised(asked, source[inside], destination[inside], matrix.bytes[inside])


def find_patterns(matrix: CommunicationMatrix, groups: Sequence[Group]) -> tuple[Pattern, ...]:
    """Return the pattern of each group, in their order."""
    row_of = {vm: row for row, vm in enumerate(matrix.vms)}
    number = np.full(len(matrix.vms), -1, dtype=np.intp)
    place = np.zeros(len(matrix.vms), dtype=np.intp)
    for at, group in enumerate(groups):
        rows = [row_of[vm] for vm in group.vms]
        number[rows] = at
        place[rows] = np.arange(len(rows))
    of_entry = number[matrix.source]
    inside = np.flatnonzero((of_entry == number[matrix.destination]) & (of_entry >= 0))
    inside = inside[np.argsort(of_entry[inside], kind="stable")]
    bounds = np.searchsorted(of_entry[inside], np.arange(1, len(groups)))
    return tuple(
        _recognised(
            group.vms,
            place[matrix.source[entries]],
            place[matrix.destination[entries]],
            matrix.bytes[entries],
            group.id,
        )
        for group, entries in zip(groups, np.split(inside, bounds), strict=False)
    )


def _recognised(
    vms: tuple[VmName, ...],
    source: NDArray[Any],
    destination: NDArray[Any],
    said: NDArray[Any],
    group: GroupId | None = None,
) -> Pattern:
    everybody = Flow.of_pairs(len(vms), source, destination, said)
    fitting = _fitting(everybody)
    best, of_whom = max(fitting, key=lambda fit: fit[0].score, default=(None, everybody))
    if best is None or best.score < FITS:
        missing = 1.0 - best.score if best is not None else 1.0
        return Pattern(kind=PatternKind.NONE, score=missing, vms=vms, group=group)
    order = tuple(vms[row] for row in of_whom.vms[best.order].tolist())
    return Pattern(kind=best.kind, score=min(1.0, best.score), vms=order, group=group)


def _fitting(everybody: Flow) -> list[tuple[Shape, Flow]]:
    """Return the shapes that the traffic may have, and whose traffic that is.

    Shapes are looked for among those who talk about as much as others; but a master's least worker is one, too.
    """
    if not everybody.total:
        return []
    talkers = everybody.of_talkers()
    crowd = all_to_all(talkers)
    if crowd is not None and crowd.score >= CLEAR:
        return [(crowd, talkers)]
    answers = [(shape(talkers), talkers) for shape in SHAPES]
    star = master_worker(everybody)
    answers.append((star, everybody) if star is not None else (master_worker(talkers), talkers))
    return [(found, flow) for found, flow in answers if found is not None]
