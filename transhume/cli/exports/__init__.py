"""What an analysis can be written to for other programs: one file a format, each loaded only when asked for.

Owns which format a file's name means, and the writing under one roof: a file appears when it is complete. What
goes into a file is said by the module of its format, whose function `write` takes a path and an analysis.
"""

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.written_files import WrittenFile, written

if TYPE_CHECKING:
    from transhume.cli.analysis import Analysis

FORMATS = {
    "parquet": "parquet",
    "csv": "delimited",
    "graphml": "graphml",
    "mtx": "matrix_market",
    "json": "result",
}
"""The module of each format; a format is called as its files end."""


@dataclass(frozen=True, slots=True)
class Export:
    """A file to be written, and how."""

    format: str
    path: Path

    def write(self, analysis: "Analysis") -> None:
        """Write the file.

        Raises:
            UsageError: it can't be written; says why.
        """
        module = import_module(f"transhume.cli.exports.{FORMATS[self.format]}")
        with written(self.path) as unfinished:
            module.write(unfinished, analysis)


class ExportedFile(WrittenFile):
    """A file whose format is told by its ending, or by a format and a colon before its name."""

    name = "file"

    def convert(  # type: ignore[override]  # a path and a format, where the parent gives a path
        self,
        value: "str | os.PathLike[str] | Export",
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Export:
        """Return the file and its format; refuse what can't be written, and what it needs."""
        if isinstance(value, Export):
            return value
        words = os.fsdecode(value)
        prefix, colon, name = words.partition(":")
        if not (colon and prefix in FORMATS):
            prefix, name = Path(words).suffix.removeprefix(".").lower(), words
        if prefix not in FORMATS:
            known = ", ".join(f".{each}" for each in FORMATS)
            self.fail(
                f"{words!r} has no ending that names a format ({known});"
                f" write FORMAT:FILE, as in csv:{words}",
                param,
                ctx,
            )
        _check_installed(prefix)
        return Export(prefix, super().convert(name, param, ctx))


def _check_installed(name: str) -> None:
    """Refuse a format before the work where its library is missing."""
    from importlib.util import find_spec

    from transhume.errors import ExtraMissing

    if name == "parquet" and find_spec("pyarrow") is None:
        raise ExtraMissing("parquet", "writing Parquet")
