"""How many examples property tests try: `TEST_EFFORT=20` for twenty times as many (`make thorough`)."""

import os

EFFORT = float(os.environ.get("TEST_EFFORT", "1"))


def examples(count: int) -> int:
    """Return the number of examples for a test that tries so many each time all tests are run."""
    return max(1, round(count * EFFORT))
