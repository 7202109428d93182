"""What holds for every test: generated examples are new each time by hand, and always the same in CI."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("by-hand", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "by-hand")
