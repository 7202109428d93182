"""An object file of clang's, as far as loading one program takes: its instructions, and where they name maps.

Owns the little of ELF that is in such a file (64 bit, little endian). It needs no type information: whoever
loads the program knows its maps by name.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_HEADER = struct.Struct("<4sBB10xHH20xQ10xHHH")
"""Magic, class, byte order; type, machine; the sections' headers: offset, size, number, that of the names."""
_SECTION = struct.Struct("<II16xQQII8xQ")
"""Name, type; offset, size, link, info; size of an entry."""
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QII")
_RELOCATABLE, _BPF = 1, 247
_SYMBOLS, _RELOCATIONS = 2, 9
_LOAD_ADDRESS = 1
"""R_BPF_64_64: a 16-byte instruction that loads the address of a map or of data."""
_INSTRUCTION_BYTES = 8
_MAP, _MAP_VALUE = 1, 2
"""What the kernel takes in place of an address: a map, or an offset into its first value."""


class DamagedObjectError(Exception):
    """The file is no object that we could load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    name: str
    kind: int
    data: bytes
    link: int
    info: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Symbol:
    name: str
    section: int
    value: int


class ObjectFile:
    """An object file, read.

    Raises:
        DamagedObjectError: it is none, or none for BPF.
    """

    def __init__(self, content: bytes) -> None:
        try:
            self._sections = _sections(content)
            self._symbols = self._read_symbols()
        except (struct.error, IndexError, ValueError) as error:
            raise DamagedObjectError(f"it isn't whole ({error})") from error

    def section(self, name: str) -> bytes:
        """Return what a section holds."""
        for section in self._sections:
            if section.name == name:
                return section.data
        raise DamagedObjectError(f"it has no section {name}")

    def program(self, section: str, descriptor_of: Callable[[str], int]) -> bytes:
        """Return the instructions of a section, with the maps' descriptors in the place of their names.

        A variable stands in the map that has the name of its section.
        """
        code = bytearray(self.section(section))
        number = next(i for i, each in enumerate(self._sections) if each.name == section)
        for at, symbol in self._relocations(number):
            home = self._sections[symbol.section].name
            is_variable = not home.startswith(".maps")
            (offset,) = struct.unpack_from("<i", code, at + 4)
            code[at + 1] = code[at + 1] & 0x0F | (_MAP_VALUE if is_variable else _MAP) << 4
            struct.pack_into(
                "<i", code, at + 4, descriptor_of(home if is_variable else symbol.name)
            )
            following = at + _INSTRUCTION_BYTES + 4
            struct.pack_into("<i", code, following, offset + symbol.value if is_variable else 0)
        return bytes(code)

    def _relocations(self, of_section: int) -> Iterator[tuple[int, _Symbol]]:
        for section in self._sections:
            if section.kind == _RELOCATIONS and section.info == of_section:
                for at, kind, symbol in _RELOCATION.iter_unpack(section.data):
                    if kind != _LOAD_ADDRESS:
                        raise DamagedObjectError(f"it has a relocation of kind {kind}")
                    yield at, self._symbols[symbol]

    def _read_symbols(self) -> list[_Symbol]:
        (table,) = (section for section in self._sections if section.kind == _SYMBOLS)
        names = self._sections[table.link].data
        return [
            _Symbol(name=_text(names, name), section=section, value=value)
            for name, _, _, section, value, _ in _SYMBOL.iter_unpack(table.data)
        ]


def _sections(content: bytes) -> list[_Section]:
    magic, bits, order, kind, machine, at, size, count, names_at = _HEADER.unpack_from(content)
    if (magic, bits, order, kind, machine) != (b"\x7fELF", 2, 1, _RELOCATABLE, _BPF):
        raise DamagedObjectError("it is no object file for BPF, little endian")
    headers = [_SECTION.unpack_from(content, at + i * size) for i in range(count)]
    names = _data(content, headers[names_at])
    return [
        _Section(
            name=_text(names, header[0]),
            kind=header[1],
            data=_data(content, header),
            link=header[4],
            info=header[5],
        )
        for header in headers
    ]


def _data(content: bytes, header: tuple[int, ...]) -> bytes:
    _, kind, at, size, *_ = header
    data = content[at : at + size]
    if len(data) != size and kind not in (0, 8):  # nothing, and zeros that aren't in the file
        raise DamagedObjectError("it was cut off")
    return data


def _text(names: bytes, at: int) -> str:
    return names[at : names.index(b"\0", at)].decode()
