"""The words between pages told as steps: hypervisors count up in them, and what always repeats costs no bytes.

A word is eight bytes, big-endian, as hypervisors put before each page, with a zero byte after it where no page
is. That is only a guess: where it's wrong, bytes compress less, and come out the same.
"""

import numpy as np
from numpy.typing import NDArray

from transhume.execute.migration.splitting import Offsets

_WORD_BYTES, _RECORD_BYTES = 8, 9
_NO_RECORDS = 255
"""Told instead of where they begin."""
_GLANCE_BYTES = 64 * _RECORD_BYTES

_Words = NDArray[np.uint64]


def to_steps(skeleton: bytes | memoryview, gaps: Offsets) -> bytearray:
    """Return a skeleton whose words are told as their differences from the words before.

    Args:
        skeleton: all bytes that aren't pages.
        gaps: how many of them stand before each page, and after the last.

    Returns:
        As many bytes, and one that says where records begin.
    """
    begin = 0 if len(gaps) > 1 else _first_record(skeleton)
    told = bytearray(skeleton)
    told.append(begin)
    words, places = _words_of(told), _places(gaps, begin)
    words[places] = np.diff(words[places].astype(np.uint64), prepend=np.uint64(0))
    return told


def from_steps(told: bytes, gaps: Offsets) -> memoryview:
    """Return the skeleton of which `to_steps` has told."""
    skeleton = bytearray(told)
    words, places = _words_of(skeleton), _places(gaps, told[-1])
    words[places] = np.cumsum(words[places].astype(np.uint64), dtype=np.uint64)
    return memoryview(skeleton)[:-1]


def _first_record(skeleton: bytes | memoryview) -> int:
    """Return where records begin in what has no page to go by: behind a byte that is zero in all of them."""
    octets = np.frombuffer(skeleton, np.uint8)
    for at in range(_RECORD_BYTES):
        if not octets[at:_GLANCE_BYTES:_RECORD_BYTES].any() and not octets[at::_RECORD_BYTES].any():
            return (at + 1) % _RECORD_BYTES
    return _NO_RECORDS


def _words_of(data: bytearray) -> _Words:
    """View the words that begin at each byte."""
    count = max(0, len(data) - _WORD_BYTES + 1)
    return np.ndarray(count, ">u8", data, strides=(1,))


def _places(gaps: Offsets, begin: int) -> Offsets:
    """Return where words stand: the last before a page ends at it, and after the last page they begin anew."""
    records = (gaps + 1) // _RECORD_BYTES
    firsts = gaps + 1 - records * _RECORD_BYTES
    firsts[-1] = begin
    records[-1] = max(0, gaps[-1] + 1 - begin) // _RECORD_BYTES if begin < _RECORD_BYTES else 0
    within = np.arange(records.sum()) - np.repeat(np.cumsum(records) - records, records)
    places: Offsets = np.repeat(np.cumsum(gaps) - gaps + firsts, records) + within * _RECORD_BYTES
    return places
