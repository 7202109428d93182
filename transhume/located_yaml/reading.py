"""Text in, plain data with positions out; syntax errors and hostile files refused.

Owns the limits on what a file may hold: its size, its depth, the growth of its aliases. Leaves the meaning
of an unquoted word to `plain`, and what a file has to say to `validation`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import yaml

from transhume.errors import InvalidFile, Mistake
from transhume.located_yaml.plain import interpret

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"
KeyPath: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_VALUES = 30_000

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is in a file (both from 1), and the text of a word or quotation found there."""

    line: int
    column: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """The data of a file and the place of every part of it.

    `mistakes` are those found while reading; the data at the paths in `doubtful` isn't what its writer meant.
    """

    file: str
    data: dict[str, Value]
    keys: Mapping[KeyPath, Place]
    values: Mapping[KeyPath, Place]
    mistakes: tuple[Mistake, ...] = ()
    doubtful: frozenset[KeyPath] = frozenset()

    def value_at(self, path: KeyPath) -> Place:
        """Return the place of the value at `path`, or of the nearest part around it."""
        while path not in self.values:
            path = path[:-1]
        return self.values[path]

    def key_at(self, path: KeyPath) -> Place:
        """Return the place of the key that leads to `path`; a list's entry has none but its value's."""
        return self.keys.get(path) or self.value_at(path)

    def get(self, path: KeyPath) -> Value:
        """Return the data at `path`, or None where there is none."""
        here: Value = self.data
        for part in path:
            if isinstance(here, dict) and isinstance(part, str):
                here = here.get(part)
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
            else:
                return None
        return here

    def mapping(self, *path: str | int) -> dict[str, Value]:
        """Return the keys and values at `path`; nothing where something else is."""
        here = self.get(path)
        return here if isinstance(here, dict) else {}

    def entries(self, *path: str | int) -> list[Value]:
        """Return the list at `path`; nothing where something else is."""
        here = self.get(path)
        return here if isinstance(here, list) else []

    def mistake(self, path: KeyPath, message: str, *, at_key: bool = False) -> Mistake:
        """Return a mistake in the value, or in the key, at `path`."""
        place = self.key_at(path) if at_key else self.value_at(path)
        return Mistake(self.file, place.line, place.column, message)


def read_file(path: Path) -> Located:
    """Read a file with positions.

    Raises:
        InvalidFile: it can't be read, isn't UTF-8, isn't YAML, or is too large.
    """
    return read(decode(read_bytes(path), str(path)), str(path))


def read_bytes(path: Path, *, at_most: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file that isn't too large; else raise InvalidFile."""
    try:
        if path.exists() and not path.is_file():  # opening a FIFO or a device could hang
            raise _refusal(str(path), "this is not a regular file; name a file")
        with path.open("rb") as stream:
            found = stream.read(at_most + 1)
    except (OSError, ValueError) as error:
        seen = getattr(error, "strerror", None) or str(error)
        raise _refusal(str(path), f"can't be read ({seen}); check its path and mode") from error
    if len(found) > at_most:
        raise _refusal(str(path), f"larger than {at_most} bytes; split it into several files")
    return found


def decode(raw: bytes, file: str) -> str:
    """Return UTF-8 bytes as text; the first byte that isn't is a mistake with its position."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", errors="replace")
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise InvalidFile((_after(before, file, message),)) from error


def read(text: str, file: str) -> Located:
    """Return the data of a YAML text with positions.

    Words that readers of YAML disagree about, duplicate keys and keys without a value don't stop the
    reading: they are in `Located.mistakes`, so that a user sees them together with all others.

    Raises:
        InvalidFile: the text isn't YAML, is empty, or holds something else than keys and values.
    """
    _refuse_unprintable(text, file)
    try:
        _refuse_hostile(text, file)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise InvalidFile((_syntax_mistake(error, file),)) from error
    if node is None:
        raise _refusal(file, "the file is empty; write keys and values")
    if not isinstance(node, yaml.MappingNode):
        raise _refusal(file, "the file must hold keys and values, such as `name: value`", node)
    return _Reading(file).of(node)


def _refuse_unprintable(text: str, file: str) -> None:
    if found := _UNPRINTABLE.search(text):
        message = f"character U+{ord(found[0]):04X} can't be printed; remove it"
        raise InvalidFile((_after(text[: found.start()], file, message),))


def _refuse_hostile(text: str, file: str) -> None:
    """Look at the events first: composing recurses on the C stack, which deep nesting would overflow."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _refusal(file, f"nested deeper than {MAX_DEPTH} levels; flatten it", event)
        if tag := getattr(event, "tag", None):
            raise _refusal(file, f"tag {tag} has no meaning here; remove it", event)


def _syntax_mistake(error: yaml.YAMLError, file: str) -> Mistake:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    context = getattr(error, "context", None)
    seen = f"{context}: {problem}" if context else str(problem)
    message = f"not YAML: {seen}; look at the quotes, brackets and indentation here and just above"
    return Mistake(file, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, message)


def _after(before: str, file: str, message: str) -> Mistake:
    line_start = before.rfind("\n") + 1
    return Mistake(file, before.count("\n") + 1, len(before) - line_start + 1, message)


def _refusal(file: str, message: str, at: yaml.Node | yaml.Event | None = None) -> InvalidFile:
    mark = at.start_mark if at else None
    return InvalidFile(
        (Mistake(file, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, message),)
    )


@dataclass(slots=True)
class _Reading:
    """One walk over a file's nodes: collects data, places and mistakes."""

    file: str
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    doubtful: set[KeyPath] = field(default_factory=set)

    def of(self, root: yaml.MappingNode) -> Located:
        return Located(
            file=self.file,
            data=self._mapping(root, ()),
            keys=self.keys,
            values=self.values,
            mistakes=tuple(self.mistakes),
            doubtful=frozenset(self.doubtful),
        )

    def _value(self, node: yaml.Node, path: KeyPath) -> Value:
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                self._enter(node, path)
                return [self._value(part, (*path, i)) for i, part in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, path)
        raise TypeError(f"YAML has no such node: {node}")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Value]:
        self._enter(node, path)
        found: dict[str, Value] = {}
        for name, key, value in self._fields(node):
            if name in found:
                first = self.keys[(*path, name)].line
                self._refuse(key, f"{name} is here twice (first in line {first}); keep one of them")
                continue
            inner = (*path, name)
            self.keys[inner] = _place(key)
            self._refuse_odd_key(key, name, inner)
            found[name] = self._value(value, inner)
        return found

    def _fields(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key.value, key, value
            else:
                self._refuse(key, "a key must be a plain name; write `name: value`")

    def _refuse_odd_key(self, key: yaml.ScalarNode, name: str, path: KeyPath) -> None:
        if key.style:  # quoted, or a block of text
            return
        if name == "<<":
            self._refuse(key, "merging with << is not supported; write the keys out", path)
            return
        try:
            meant = interpret(name)
        except ValueError as error:
            self._refuse(key, str(error), path)
            return
        if not isinstance(meant, str):
            self._refuse(key, f"the key {name or '(none)'} must be a text; quote it", path)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Value:
        self._enter(node, path)
        text = str(node.value)
        if node.style:
            return text
        try:
            meant = interpret(text)
        except ValueError as error:
            self._refuse(node, str(error), path)
            return text
        if meant is None:
            self._refuse(self._key_or(node, path), self._no_value(path), path)
        return meant

    def _key_or(self, node: yaml.Node, path: KeyPath) -> Place:
        return self.keys.get(path) or _place(node)

    def _no_value(self, path: KeyPath) -> str:
        if path and isinstance(path[-1], str):
            return f"{path[-1]} has no value; write one, or remove the key"
        return "this entry has no value; write one, or remove it"

    def _enter(self, node: yaml.Node, path: KeyPath) -> None:
        if len(path) > MAX_DEPTH or len(self.values) >= MAX_VALUES:
            raise _refusal(
                self.file, "aliases make this file too large or refer to themselves", node
            )
        self.values[path] = _place(node)

    def _refuse(self, at: yaml.Node | Place, message: str, path: KeyPath | None = None) -> None:
        place = at if isinstance(at, Place) else _place(at)
        self.mistakes.append(Mistake(self.file, place.line, place.column, message))
        if path is not None:
            self.doubtful.add(path)


def _place(node: yaml.Node) -> Place:
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    return Place(node.start_mark.line + 1, node.start_mark.column + 1, text)
