"""Random numbers inside kernels: one word of 64 bits at a time, from which indices and shares are taken.

SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): a step takes
the processor a nanosecond or two and nobody waits for the one before. NumPy's, which kernels can use too, took
half of an annealing step's time. Its words need only look random; nobody is to be kept from guessing them.
"""

import numpy as np
from numpy.typing import NDArray

from transhume.plan.scale.compiling import part_of_kernel

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32, _11 = (np.uint64(bits) for bits in (30, 27, 31, 32, 11))
_LOW = np.uint64(0xFFFFFFFF)
_PART = 2.0**-53


def chance_of(seed: int) -> Words:
    """Return the state of a generator, which `draw` changes."""
    return np.array([seed], dtype=np.uint64)


@part_of_kernel
def draw(chance: Words) -> np.uint64:
    """Return the next word."""
    chance[0] += _GOLDEN
    word = chance[0]
    word = (word ^ (word >> _30)) * _FIRST
    word = (word ^ (word >> _27)) * _SECOND
    return np.uint64(word ^ (word >> _31))


@part_of_kernel
def upper(word: np.uint64, count: int) -> int:
    """Return a number below a count (itself below 2^31), from a word's upper half."""
    return int(np.int64(((word >> _32) * np.uint64(count)) >> _32))


@part_of_kernel
def lower(word: np.uint64, count: int) -> int:
    """Return a number below a count (itself below 2^31), from a word's lower half."""
    return int(np.int64(((word & _LOW) * np.uint64(count)) >> _32))


@part_of_kernel
def share(word: np.uint64) -> float:
    """Return a number from 0 to below 1."""
    return np.int64(word >> _11) * _PART
