"""What a migration is to be like, as whoever asks for it says; `parameters` tells libvirt. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum

from transhume.deployment.model import NO_COMMON_FILES, CommonFiles
from transhume.errors import UsageError
from transhume.execute.migration.transport import Share


class Compression(StrEnum):
    """What the hypervisor does to the memory that it sends; a transport that finds pages wants none."""

    NONE = "none"
    XBZRLE = "xbzrle"
    """Pages that are sent again as their difference; in one stream only."""
    ZSTD = "zstd"
    """Each channel's pages by themselves; over several channels only."""


class Disks(StrEnum):
    """What becomes of a VM's disks that are the source's own; shared ones are left alone in any case."""

    NONE = "none"
    """A VM that has such disks isn't moved: libvirt refuses."""
    COPY = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConverge:
    """How a guest that writes faster than the path carries is slowed; None: as the hypervisor likes."""

    initial_percent: int | None = None
    increment_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOptions:
    """How one VM is to be moved.

    Raises:
        UsageError: the options exclude each other.
    """

    channels: int = 0
    """Connections that share the memory (multifd); 0: all of it goes through one plain stream."""
    compression: Compression = Compression.NONE
    bytes_per_second: float | None = None
    """A limit; where the route has one, too, the lower of the two holds."""
    share: Share | None = None
    """Of the link that it goes over, as far as its transport can keep to one."""
    downtime_limit_ms: int | None = None
    """How long the hypervisor may plan to stop the guest for at the end; None: as it likes."""
    switchover_bytes_per_second: float | None = None
    """The rate that the hypervisor is to reckon with for that, where it would rather believe what its socket
    swallows. Hypervisors that can't be told aren't told."""
    auto_converge: AutoConverge | None = field(default_factory=AutoConverge)
    post_copy_after_seconds: float | None = None
    """The guest starts at the destination after so long, and fetches what is missing; None: never."""
    time_limit_seconds: float | None = None
    """A migration that takes longer is aborted; one that is in post-copy can't be."""
    disks: Disks = Disks.NONE
    common_files: CommonFiles = NO_COMMON_FILES
    """What needn't be copied with disks."""
    keep_left_copies: bool = False
    """True: the source's copies of disks stay there after the move, out of date."""

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem is not None:
            raise UsageError(problem)


def _problem(options: MigrationOptions) -> str | None:
    if options.post_copy_after_seconds is not None and options.disks is Disks.COPY:
        return (
            "post-copy and copied disks exclude each other: a guest whose path broke would be left "
            "with half of its memory at one host and its disks at the other"
        )
    if options.compression is Compression.ZSTD and not options.channels:
        return "zstd compresses what goes over several channels: say how many"
    if options.compression is Compression.XBZRLE and options.channels:
        return "xbzrle and several channels exclude each other"
    limits = {
        "channels": options.channels or None,
        "bytes_per_second": options.bytes_per_second,
        "downtime_limit_ms": options.downtime_limit_ms,
        "switchover_bytes_per_second": options.switchover_bytes_per_second,
        "post_copy_after_seconds": options.post_copy_after_seconds,
        "time_limit_seconds": options.time_limit_seconds,
    }
    wrong = [name for name, value in limits.items() if value is not None and value <= 0]
    return f"{' and '.join(wrong)} must be above 0" if wrong else None
