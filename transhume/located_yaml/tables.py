"""Tables of comma-separated cells, read as the list of mappings that they would be in YAML, with every place.

A first line names the columns. An empty cell says nothing; blank lines are passed over. For files that hold
what was recorded: no name in them needs a quoted comma.
"""

from collections.abc import Iterator, Sequence

from transhume.errors import InvalidFile, Mistake
from transhume.located_yaml.reading import KeyPath, Located, Place, Value


def read_table(text: str, file: str, *, key: str, columns: Sequence[str]) -> Located:
    """Return a table's rows as the list at `key`.

    Raises:
        InvalidFile: the file is empty, or its first line names other columns than these.
    """
    wanted = ",".join(columns)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise InvalidFile((Mistake(file, 1, 1, f"the file is empty; begin it with {wanted}"),))
    header = _header(*lines[0], file, columns)
    keys: dict[KeyPath, Place] = {}
    values: dict[KeyPath, Place] = {(): Place(1, 1), (key,): Place(1, 1)}
    rows: list[Value] = []
    mistakes: list[Mistake] = []
    for number, line in lines[1:]:
        path = (key, len(rows))
        values[path] = Place(number, 1)
        cells = list(_cells(number, line))
        if len(cells) > len(header):
            place = cells[len(header)]
            message = f"{len(cells)} cells under {len(header)} columns; remove those beyond"
            mistakes.append(Mistake(file, place.line, place.column, message))
        row = {name: cell for name, cell in zip(header, cells, strict=False) if cell.text}
        values.update({(*path, name): cell for name, cell in row.items()})
        rows.append({name: cell.text for name, cell in row.items()})
    return Located(file=file, data={key: rows}, keys=keys, values=values, mistakes=tuple(mistakes))


def _header(number: int, line: str, file: str, columns: Sequence[str]) -> list[str]:
    cells = list(_cells(number, line))
    names = [cell.text for cell in cells]
    wanted = ",".join(columns)
    mistakes = [
        Mistake(file, cell.line, cell.column, f"{cell.text!r} is no new column; write {wanted}")
        for i, cell in enumerate(cells)
        if cell.text not in columns or cell.text in names[:i]
    ]
    if mistakes:
        raise InvalidFile(tuple(mistakes))
    return names


def _cells(number: int, line: str) -> Iterator[Place]:
    """Cut a line at its commas."""
    column = 1
    for cell in line.split(","):
        blanks = len(cell) - len(cell.lstrip())
        yield Place(number, column + blanks, cell.strip().strip('"'))
        column += len(cell) + 1
