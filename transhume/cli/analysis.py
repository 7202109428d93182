"""What captures were found to hold: the one record that the terminal, the report and the exports tell of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transhume.knowledge.model import (
    CommunicationMatrix,
    Cut,
    Forecast,
    Group,
    GroupId,
    MatrixSeries,
    Pattern,
    TrafficPhase,
    UnattributedTraffic,
    Vm,
)
from transhume.quantities import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from transhume.monitor.capture.files import CaptureSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What captures hold."""

    summaries: "tuple[CaptureSummary, ...]"
    vms: tuple[Vm, ...]
    matrix: CommunicationMatrix
    """The whole time."""
    series: MatrixSeries
    """The same, slice by slice."""
    unattributed: tuple[UnattributedTraffic, ...] = ()
    """What belongs to no VM: the pairs of addresses that exchanged most."""
    groups: tuple[Group, ...] = ()
    patterns: Mapping[GroupId, Pattern] = field(default_factory=dict)
    pattern: Pattern | None = None
    """The shape of the whole matrix."""
    phases: tuple[TrafficPhase, ...] = ()
    forecast: Forecast | None = None
    cut: Cut | None = None
    """What crosses clouds, where it was said in which clouds the VMs are."""
    cut_is_billed: bool = False
    doubts: tuple[str, ...] = ()
    """What was found wrong while reading."""

    @property
    def headline(self) -> str:
        """What it is about, in one line."""
        frames = sum(summary.frames for summary in self.summaries)
        count = sum(summary.bytes for summary in self.summaries)
        return (
            f"{frames:,} frames, {format_bytes(count)} in {format_duration(self.matrix.seconds)};"
            f" {format_count(len(self.vms), 'VM')}, {format_count(len(self.groups), 'group')}"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps the analysis from being the whole truth, for a person."""
        return (*self.doubts, *self._losses())

    def _losses(self) -> Iterator[str]:
        if self.matrix.dropped_frames:
            yield (
                f"the capture itself lost {self.matrix.dropped_frames:,} frames: what is counted is"
                " a lower bound"
            )
        for summary in self.summaries:
            if summary.parts_read_again:
                yield (
                    f"{summary.path}: {format_count(summary.parts_read_again, 'part')} did not begin at a"
                    " frame and had to be read twice; the result is right all the same"
                )
