import errno
from pathlib import Path

import numpy as np
import pytest

from transhume.execute.migration.content import page_log
from transhume.execute.migration.content.page_log import (
    SEGMENT_BYTES,
    SEGMENT_PAGES,
    NotInLog,
    PageLog,
)
from transhume.execute.migration.content.vault import Vault
from transhume.execute.migration.splitting import PAGE_BYTES

SMALL = 2 * SEGMENT_BYTES


def pages(*numbers: int) -> bytes:
    """Make pages that tell their numbers."""
    return b"".join(number.to_bytes(8) * (PAGE_BYTES // 8) for number in numbers)


def numbers_of(found: list[memoryview]) -> list[int]:
    assert all(page == page[:8].tobytes() * (PAGE_BYTES // 8) for page in found)
    return [int.from_bytes(page[:8]) for page in found]


def test_pages_are_found_at_their_positions_in_any_order(tmp_path: Path) -> None:
    log = PageLog(tmp_path, memory_bytes=SMALL)
    log.append(pages(*range(10)))
    log.append(pages(*range(10, 20)))
    assert numbers_of(log.read(np.array([19, 0, 7, 7, 11]))) == [19, 0, 7, 7, 11]


def test_what_has_no_room_in_memory_is_read_from_disk(tmp_path: Path) -> None:
    log = PageLog(tmp_path, memory_bytes=SMALL)
    for start in range(0, 5 * SEGMENT_PAGES, 500):
        log.append(pages(*range(start, start + 500)))
    assert log.memory_bytes == SMALL
    assert log.disk_bytes > 0
    everywhere = np.arange(0, log.next, 97)[::-1]
    assert numbers_of(log.read(everywhere)) == everywhere.tolist()
    log.close()


def test_a_full_disk_is_waited_for_in_memory_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PageLog(tmp_path, memory_bytes=SMALL)
    most = (SMALL // SEGMENT_BYTES + page_log._SEGMENTS_WITHOUT_A_PLACE) * SEGMENT_PAGES
    with monkeypatch.context() as patch:
        patch.setattr(Vault, "put", _full)
        log.append(pages(*range(most)))
        with pytest.raises(OSError, match="No space"):
            log.append(pages(most))
    assert (log.next, log.disk_bytes) == (most, 0)

    log.append(pages(most))
    assert log.memory_bytes == SMALL
    everywhere = np.arange(0, log.next, 97)
    assert numbers_of(log.read(everywhere)) == everywhere.tolist()
    log.close()


def _full(*_segment: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_nothing_on_disk_can_be_read_without_the_key(tmp_path: Path) -> None:
    log = PageLog(tmp_path, memory_bytes=SMALL)
    secret = b"a guest's password" * 200
    page = secret.ljust(PAGE_BYTES, b"!")[:PAGE_BYTES]
    log.append(page * (4 * SEGMENT_PAGES))
    vault = log._vault
    assert vault is not None
    vault._file.seek(0)
    written = vault._file.read()
    assert len(written) >= SEGMENT_BYTES
    assert b"password" not in written
    assert len({written[at : at + PAGE_BYTES] for at in range(0, SEGMENT_BYTES, PAGE_BYTES)}) == (
        SEGMENT_PAGES
    ), "equal pages look different"
    assert list(tmp_path.iterdir()) == [], "the file has no name"
    log.close()


def test_what_was_forgotten_is_not_there_and_the_rest_is(tmp_path: Path) -> None:
    log = PageLog(tmp_path, memory_bytes=SMALL)
    log.append(pages(*range(4 * SEGMENT_PAGES)))
    log.forget_below(SEGMENT_PAGES + 5)
    with pytest.raises(NotInLog):
        log.read(np.array([SEGMENT_PAGES + 4]))
    assert numbers_of(log.read(np.array([SEGMENT_PAGES + 5]))) == [SEGMENT_PAGES + 5]
    assert log.kept_bytes == (3 * SEGMENT_PAGES - 5) * PAGE_BYTES
    log.close()


def test_the_place_of_a_forgotten_segment_is_used_again(tmp_path: Path) -> None:
    log = PageLog(tmp_path, memory_bytes=SMALL)
    for start in range(0, 20 * SEGMENT_PAGES, SEGMENT_PAGES):
        log.append(pages(*range(start, start + SEGMENT_PAGES)))
        log.forget_below(log.next - 4 * SEGMENT_PAGES)
    assert log.disk_bytes <= 3 * SEGMENT_BYTES
    assert log._vault is not None
    assert Path(f"/proc/self/fd/{log._vault._file.fileno()}").stat().st_size <= 4 * SEGMENT_BYTES
    kept = np.arange(log.first, log.next)
    assert numbers_of(log.read(kept)) == kept.tolist()
    log.close()


def test_a_log_is_cut_where_the_other_end_ends_and_goes_on_from_there(tmp_path: Path) -> None:
    log = PageLog(tmp_path, memory_bytes=SMALL)
    log.append(pages(*range(100)))
    log.truncate(60)
    log.append(pages(1000, 1001))
    assert log.next == 62
    assert numbers_of(log.read(np.array([59, 60, 61]))) == [59, 1000, 1001]


def test_a_log_is_not_cut_within_what_is_on_disk(tmp_path: Path) -> None:
    log = PageLog(tmp_path, memory_bytes=SMALL)
    log.append(pages(*range(4 * SEGMENT_PAGES)))
    with pytest.raises(NotInLog):
        log.truncate(SEGMENT_PAGES // 2)
    assert log.next == 4 * SEGMENT_PAGES
    log.close()
