"""The words between pages told as steps: hypervisors count up in them, and what always repeats costs no bytes.

A word is eight bytes, big-endian, as hypervisors put before each page, with one byte after it where no page is.
That is only a guess: where it's wrong, bytes compress less, and come out the same.
"""

import numpy as np
from numpy.typing import NDArray

from transhume.execute.migration.splitting import Offsets

_WORD_BYTES, _RECORD_BYTES = 8, 9

_Words = NDArray[np.uint64]


def to_steps(skeleton: bytes | memoryview, gaps: Offsets) -> bytearray:
    """Return a skeleton whose words are told as their differences from the words before.

    Args:
        skeleton: all bytes that aren't pages.
        gaps: how many of them stand before each page, and after the last.
    """
    told = bytearray(skeleton)
    words, places = _words_of(told), _places(gaps)
    words[places] = np.diff(words[places].astype(np.uint64), prepend=np.uint64(0))
    return told


def from_steps(steps: bytes | memoryview, gaps: Offsets) -> bytearray:
    """Return the skeleton of which `to_steps` has told."""
    skeleton = bytearray(steps)
    words, places = _words_of(skeleton), _places(gaps)
    words[places] = np.cumsum(words[places].astype(np.uint64), dtype=np.uint64)
    return skeleton


def _words_of(data: bytearray) -> _Words:
    """View the words that begin at each byte."""
    count = max(0, len(data) - _WORD_BYTES + 1)
    return np.ndarray(count, ">u8", data, strides=(1,))


def _places(gaps: Offsets) -> Offsets:
    """Return where words stand: in gaps that are all records, whether or not the last one has a page."""
    records = (gaps + 1) // _RECORD_BYTES
    records[(gaps + 1) % _RECORD_BYTES > 1] = 0
    firsts = np.cumsum(records) - records
    within = np.arange(records.sum()) - np.repeat(firsts, records)
    places: Offsets = np.repeat(np.cumsum(gaps) - gaps, records) + within * _RECORD_BYTES
    return places
