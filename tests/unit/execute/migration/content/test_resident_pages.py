"""Pages of VMs at a site are kept once, as they were, and as far as there is room."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from transhume.execute.migration.content.digests import digest_of
from transhume.execute.migration.content.page_log import NotInLog, PageLog
from transhume.execute.migration.content.resident_pages import ResidentPages
from transhume.execute.migration.splitting import PAGE_BYTES

A, B, C, D = (bytes([number]) * PAGE_BYTES for number in (1, 2, 3, 4))
EMPTY = bytes(PAGE_BYTES)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PageLog]:
    found = PageLog(tmp_path, memory_bytes=8 << 20)
    yield found
    found.close()


def test_each_page_is_kept_once_and_read_by_its_index(log: PageLog) -> None:
    pages = ResidentPages(log, 10 * PAGE_BYTES)
    assert pages.add([A, B, A, EMPTY]) == 2
    assert pages.add([B, C]) == 1
    assert pages.digests == [digest_of(page) for page in (A, B, C)]
    assert [bytes(page) for page in pages.read(np.array([2, 0]))] == [C, A]
    with pytest.raises(NotInLog):
        pages.read(np.array([3]))


def test_what_is_known_anyhow_takes_no_room(log: PageLog) -> None:
    pages = ResidentPages(log, 10 * PAGE_BYTES, known={digest_of(A)})
    assert pages.add([A, B]) == 1
    assert pages.kept_bytes == PAGE_BYTES


def test_there_is_an_end_to_it(log: PageLog) -> None:
    pages = ResidentPages(log, 2 * PAGE_BYTES)
    assert pages.add([A, B, C]) == 2
    assert pages.full
    assert pages.add([D]) == 0
    assert pages.digests == [digest_of(A), digest_of(B)]
