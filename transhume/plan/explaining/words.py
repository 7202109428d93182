"""The words for why a VM stays where it is."""

from collections.abc import Sequence

from transhume.knowledge.model import SECONDS_PER_HOUR, Alternative, Hindrance
from transhume.quantities import format_dollars_per_hour, format_duration

SAME_DOLLARS = 0.00005
"""Below this an hour, two places cost the same to a person."""


OF_NO_POLICY = "no policy selects it: it stays where it is, whatever moving it would bring"


def not_in_time(best: Alternative, saving: float, dollars: float, limit_seconds: float) -> str:
    """Return that a place is cheaper but the way to it isn't worth it.

    Args:
        best: the place.
        saving: what running there saves, in dollars per hour.
        dollars: what the move costs once.
        limit_seconds: within what time it must have paid.
    """
    payback = format_duration(dollars / saving * SECONDS_PER_HOUR)
    return (
        f"running in {best.cloud} would save {format_dollars_per_hour(saving)}, but the move has paid "
        f"for itself only after {payback}; the limit is {format_duration(limit_seconds)}"
    )


def why_it_stays(alternatives: Sequence[Alternative], together: int) -> str:
    """Return why a VM isn't moved: what the best other place would bring, and what stands against it.

    Args:
        alternatives: its other places, the cheapest first.
        together: how many VMs its bundle has.
    """
    if not alternatives:
        return "there is no other place"
    for other in alternatives:
        if other.alone and Hindrance.TRANSIT in other.hindrances:
            return "it's on its way already"
    best = alternatives[0]
    if best.dollars_per_hour is None:
        return best.barred or f"what {best.cloud} would cost isn't known"
    if best.barred and best.dollars_per_hour < -SAME_DOLLARS:
        saved = format_dollars_per_hour(-best.dollars_per_hour)
        who = "" if best.alone else f", {together} VMs moving as one"
        return f"{best.cloud} would save {saved}{who}, but {best.barred}"
    if best.dollars_per_hour < SAME_DOLLARS:
        return f"nothing would be gained: {best.cloud} costs as much"
    more = format_dollars_per_hour(best.dollars_per_hour)
    return f"no other place is cheaper: {best.cloud}, the next best, costs {more} more"
