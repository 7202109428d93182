"""Files that a command writes: refused before the work where they can't be written, not after it.

Owns the type of options that name such a file, and the writing. Folders that are missing are made.
"""

import os
from pathlib import Path

import click


class WrittenFile(click.Path):
    """A file to be written; a mistake in its path is told at once."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Return the path; refuse it where no file can be made there."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            self.fail(f"{str(path)!r} can't be made: {str(folder)!r} is no folder", param, ctx)
        if not path.exists() and not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{str(path)!r} can't be made: {str(folder)!r} can't be written", param, ctx)
        return path


def write(path: Path, text: str) -> None:
    """Write a file, and the folders that it is in.

    Raises:
        UsageError: it can't be written; says why.
    """
    from transhume.errors import UsageError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"can't write {path} ({error.strerror}); name another file, or make room"
        ) from error
