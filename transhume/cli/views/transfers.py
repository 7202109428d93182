"""Why less was sent than hypervisors gave: a transfer, in a few words."""

from transhume.knowledge.model import Transfer
from transhume.quantities import format_bytes

_PAGE_BYTES = 4096


def saved(transfer: Transfer) -> str:
    """Say which share of the bytes didn't cross, and why, the most frequent reason first."""
    share = share_of(transfer.raw_bytes - transfer.wire_bytes, transfer.raw_bytes)
    raw, wire = format_bytes(transfer.raw_bytes), format_bytes(transfer.wire_bytes)
    return f"{raw} in {wire}, {share} saved: {reasons(transfer)}"


def reasons(transfer: Transfer) -> str:
    """Say why bytes didn't cross, as shares of all that didn't."""
    compressed = transfer.new_pages * _PAGE_BYTES - transfer.new_wire_bytes
    kinds = {
        "the VM's own": transfer.own_pages * _PAGE_BYTES,
        "the cluster's": transfer.cluster_pages * _PAGE_BYTES,
        "the site's": transfer.site_pages * _PAGE_BYTES,
        "compression": max(0, compressed),
    }
    whole = sum(kinds.values())
    ranked = sorted((kind for kind in kinds.items() if kind[1]), key=lambda kind: -kind[1])
    words = [f"{name} {share_of(amount, whole)}" for name, amount in ranked]
    if transfer.zero_pages:
        words.append(f"{transfer.zero_pages:,} zero pages")
    return ", ".join(words) or "nothing"


def share_of(part: int, whole: int) -> str:
    """Write a part of a whole as a percentage."""
    return f"{max(0, part) / whole:.0%}" if whole else "–"
