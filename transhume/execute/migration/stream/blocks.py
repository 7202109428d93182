"""The list of memory blocks that a plain stream begins with.

An entry is a name and a length; a page size follows in blocks of huge pages where postcopy is allowed, and an
address where shared memory is left out. Nothing in the list says which: QEMU's two ends are told apart from it.
What tells is that both are numbers of 8 bytes that begin with a zero, and that a name doesn't.
"""

from transhume.execute.migration.stream.reading import Cursor, NotUnderstoodError

EOS, MULTIFD_FLUSH = 0x10, 0x200
_EXTRAS = 2
_MOST_BLOCKS = 1024


def read_blocks(cursor: Cursor, total_bytes: int) -> dict[bytes, int]:
    """Read blocks that make up so many bytes; return the length in bytes of each, by name.

    Raises:
        ShortError: the list, or the number after it, isn't all there.
        NotUnderstoodError: the lengths don't add up, or the list doesn't end as it must.
    """
    blocks: dict[bytes, int] = {}
    left = total_bytes
    while left > 0:
        name = cursor.text()
        length = cursor.number64()
        left -= length
        if left < 0 or not name or name in blocks or len(blocks) == _MOST_BLOCKS:
            raise NotUnderstoodError("a list of memory blocks that doesn't add up")
        blocks[name] = length
        _pass_extras(cursor, last=left == 0)
    return blocks


def _pass_extras(cursor: Cursor, *, last: bool) -> None:
    for _ in range(_EXTRAS):
        if (cursor.peek64() in {EOS, MULTIFD_FLUSH}) if last else (cursor.peek8() != 0):
            return
        cursor.skip(8)
    if last and cursor.peek64() not in {EOS, MULTIFD_FLUSH}:
        raise NotUnderstoodError("a list of memory blocks of an unknown layout")
