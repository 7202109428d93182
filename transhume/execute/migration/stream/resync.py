"""Where a section ends of whose contents nothing is known.

Each section ends with a footer that repeats its number. The same five bytes may stand in the contents, too: an
end is believed where what follows it begins like a section that may come there. To be wrong costs
deduplication, and no byte.
"""

import re

from transhume.execute.migration.stream.reading import Cursor, ShortError

_FOOTER = b"\x7e"
_START, _PART, _END, _FULL, _COMMAND = 1, 2, 3, 4, 8
_FOOTER_BYTES = 5
_MOST_SECTIONS_AHEAD = 4096
"""Numbers are given in the order of devices' making; those that send nothing early leave gaps."""
_LENGTHS_OF_COMMANDS = {
    1: {0},
    2: {4},
    3: {0, 16},
    4: {0},
    5: {0},
    7: {4},
    8: {0},
    9: {0},
    11: {0},
}
"""By command; 6 and 10 tell of blocks, and are as long as names are."""
_COMMANDS_WITH_NAMES, _LONGEST_COMMAND_WITH_NAMES = {6, 10}, 4096


class SectionEnd:
    """Looks for the end of one section after the other."""

    def __init__(self, names: dict[int, bytes]) -> None:
        self._names = names
        self._footer = re.compile(_FOOTER)

    def of(self, number: int) -> None:
        """Look for the end of this section from now on."""
        self._footer = re.compile(re.escape(_FOOTER + number.to_bytes(4)))

    def find(self, cursor: Cursor) -> None:
        """Move to behind the section's footer.

        Raises:
            ShortError: it isn't there yet, or too little behind it.
        """
        start = cursor.at
        for match in self._footer.finditer(cursor.octets, start):
            cursor.unit, cursor.at = match.start(), match.end()
            if self._may_follow(cursor):
                cursor.at = match.end()
                return
        cursor.unit = max(start, len(cursor.octets) - _FOOTER_BYTES + 1)
        raise ShortError

    def _may_follow(self, cursor: Cursor) -> bool:
        kind = cursor.number8()
        if kind in {_PART, _END}:
            return cursor.number32() in self._names
        if kind in {_START, _FULL}:
            return self._may_begin(cursor)
        return kind == _COMMAND and self._may_command(cursor)

    def _may_begin(self, cursor: Cursor) -> bool:
        number, name = cursor.number32(), cursor.text()
        cursor.skip(8)
        known = number in self._names
        near = number <= max(self._names) + _MOST_SECTIONS_AHEAD
        return not known and near and name != b"" and name.isascii() and name.decode().isprintable()

    def _may_command(self, cursor: Cursor) -> bool:
        command, length = cursor.number16(), cursor.number16()
        if command in _COMMANDS_WITH_NAMES:
            return 0 < length <= _LONGEST_COMMAND_WITH_NAMES
        return length in _LENGTHS_OF_COMMANDS.get(command, set())
