"""The recorded streams in tests/data/migration."""

from functools import cache
from pathlib import Path

import zstandard

_FOLDER = Path(__file__).parents[4] / "data/migration"
SEEDS = sorted(path.name.removesuffix(".zst") for path in _FOLDER.glob("*.zst"))


@cache
def seed(name: str) -> bytes:
    """Return a recorded stream."""
    return zstandard.decompress((_FOLDER / f"{name}.zst").read_bytes())
