"""What traffic means: the shape of a matrix, the stretches of time with one shape, what is expected next."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from transhume.knowledge.model.names import GroupId, VmName
from transhume.knowledge.model.traffic import CommunicationMatrix


class PatternKind(StrEnum):
    """The shapes that we know."""

    ALL_TO_ALL = "all-to-all"
    RING = "ring"
    GRID = "grid"
    MASTER_WORKER = "master-worker"
    BUTTERFLY = "butterfly"
    PAIRS = "pairs"
    PIPELINE = "pipeline"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The shape of the traffic among some VMs."""

    kind: PatternKind
    score: float
    """How much of the traffic the shape explains, and how evenly it is used: 0 to 1."""
    vms: tuple[VmName, ...]
    """In the order of the shape: along a ring or pipeline, row by row of a grid, the master first."""
    group: GroupId | None = None
    """The group whose shape it is; None for the whole matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPhase:
    """A stretch of time in which traffic keeps its shape and its amount."""

    start: datetime
    seconds: float
    bytes_per_second: float
    pattern: Pattern


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """What is expected of the time after the last window."""

    matrices: tuple[CommunicationMatrix, ...]
    """One for each window to come, the nearest first."""
    error: float
    """Relative error (Frobenius) of the same method on windows already seen; at 1, silence does as well."""
    method: str
