"""Frames of several domains are coded at the same time, in a thread for each."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

from transhume.execute.migration.coding.frame import deflate, inflate


def part_of(seed: int) -> bytes:
    """Return something like how a frame is put together: long enough for threads to meet in it."""
    random = Random(seed)
    return b"".join(random.randbytes(4) * random.randrange(1, 30) for _ in range(20_000))


def test_parts_that_are_compressed_at_the_same_time_stay_apart() -> None:
    """A compressor belongs to one thread: shared, it mixed up the frames of two tenants."""
    parts = [part_of(seed) for seed in range(8)]

    def survives(number: int) -> bool:
        part = parts[number % len(parts)]
        return inflate(deflate(part), len(part)) == part

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(survives, range(400)))
