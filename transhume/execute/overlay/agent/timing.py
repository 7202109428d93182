"""How patient an agent is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long an agent waits for what."""

    confirm_seconds: float = 5.0
    """For a VM that has stopped to run elsewhere, before the hypervisor here is asked once more."""
    offer_seconds: float = 1.0
    """For the register to have taken what was offered, before it's offered again."""
    linger_seconds: float = 1.0
    """Frames are sent on at least so long."""
    moves: int = 5
    """So many moves that nobody asked for ..."""
    window_seconds: float = 180.0
    """... within so long are too many (RFC 7432, section 15.1)."""
    gone_seconds: float = 60.0
    """For a VM to be at none of the hypervisors here, before its address leaves the register."""
    remembered_seconds: float = 3600.0
    """The sequence of an address that has left: older news of it have long come by then."""
    silent_seconds: float = 600.0
    """So long frames are sent on for the sake of sites that say nothing."""
