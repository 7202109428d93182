"""The subsections of a plain stream's configuration."""

from transhume.execute.migration.splitting import PAGE_BYTES
from transhume.execute.migration.stream.reading import Cursor, NotUnderstoodError

_MOST_CAPABILITIES = 256
_UUID_BYTES = 16
_MOST_PAGE_BITS = 24


def read_target_page(cursor: Cursor) -> int | None:
    """Read a subsection; return the bytes of the guest's page where it tells them.

    Raises:
        ShortError: it isn't all there.
        NotUnderstoodError: nobody knows it, or what it tells makes pages unfindable.
    """
    name = cursor.text()
    cursor.number32()
    if name == b"configuration/target-page-bits":
        return _page_bytes(cursor.number32())
    if name == b"configuration/capabilities":
        _read_capabilities(cursor)
    elif name == b"configuration/uuid":
        cursor.skip(_UUID_BYTES)
    else:
        raise NotUnderstoodError(f"an unknown configuration: {name.decode('ascii', 'replace')}")
    return None


def _page_bytes(bits: int) -> int:
    if not PAGE_BYTES <= 1 << min(bits, _MOST_PAGE_BITS + 1) <= 1 << _MOST_PAGE_BITS:
        raise NotUnderstoodError(f"pages of 2^{bits} bytes")
    return 1 << bits


def _read_capabilities(cursor: Cursor) -> None:
    count = cursor.number32()
    if count > _MOST_CAPABILITIES:
        raise NotUnderstoodError(f"{count} capabilities")
    if b"mapped-ram" in [cursor.text() for _ in range(count)]:
        raise NotUnderstoodError("mapped-ram: pages stand at places of their own in a file")
