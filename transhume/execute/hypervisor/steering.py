"""What is due in a migration's course: the switch to post-copy, the abortion where it takes too long. Pure."""

from enum import Enum, auto

from transhume.execute.hypervisor.options import MigrationOptions


class Due(Enum):
    """What is to be asked of the hypervisor now."""

    POST_COPY = auto()
    ABORT = auto()


class Steering:
    """One migration's course."""

    def __init__(self, options: MigrationOptions) -> None:
        self._options = options
        self.in_post_copy = False
        """Whether the hypervisor has taken the order; a guest that runs at both ends can't go back."""

    def due(self, elapsed_seconds: float) -> Due | None:
        """Say what is due so long after the beginning; the same again until it has been taken."""
        if self.in_post_copy:
            return None
        switch, limit = self._options.post_copy_after_seconds, self._options.time_limit_seconds
        if limit is not None and elapsed_seconds >= limit:
            return Due.ABORT
        if switch is not None and elapsed_seconds >= switch:
            return Due.POST_COPY
        return None
