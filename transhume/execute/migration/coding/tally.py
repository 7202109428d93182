"""What became of a stream's bytes on their way: why most of them needn't be sent.

Plain numbers that add up, over frames, streams and migrations.
"""

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Tally:
    """Counts of bytes, and of pages by how they were sent."""

    raw_bytes: int = 0
    """What came from the hypervisor."""
    wire_bytes: int = 0
    """What it became, without TLS and TCP."""
    zero_pages: int = 0
    """Told of as zero by the hypervisor."""
    own_pages: int = 0
    """Sent before by the same VM, in this migration or an earlier one."""
    cluster_pages: int = 0
    """Sent before by another VM."""
    site_pages: int = 0
    """Known at the destination's site otherwise: in an image, or because they came from there."""
    new_pages: int = 0
    new_wire_bytes: int = 0
    """What the new pages became, by compression and the window."""
    other_bytes: int = 0
    """What isn't pages: headers, the state of devices, what isn't understood."""
    other_wire_bytes: int = 0
    """What that became, with the frames' own bookkeeping."""

    def add(self, other: "Tally") -> None:
        """Add another tally's counts."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
