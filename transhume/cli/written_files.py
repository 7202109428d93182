"""Files that a command writes: refused before the work where they can't be written, and never left half done.

Owns the type of options that name such a file, and the writing. Folders that are missing are made. A file gets
its name only when it is complete: whoever reads it meanwhile sees the old one, or none.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
    with written(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give the name to write a file under, and give the file its own name when that has gone well.

    What is no plain file (a pipe, /dev/stdout), and a file in a folder that can't be written, is written as it
    is. Whatever goes wrong, nothing unfinished is left behind.

    Raises:
        UsageError: it can't be written; says why.
    """
    from transhume.errors import UsageError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place = path.resolve()
        if _replaceable(place):
            with _beside(place) as unfinished:
                yield unfinished
        else:
            yield place
    except OSError as error:
        raise UsageError(
            f"can't write {path} ({error.strerror or error}); name another file, or make room"
        ) from error


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    unfinished = place.with_name(f".{place.name[:200]}.{os.getpid()}.part")
    try:
        yield unfinished
        if place.exists():
            unfinished.chmod(place.stat().st_mode & 0o777)
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)


def _replaceable(place: Path) -> bool:
    return os.access(place.parent, os.W_OK | os.X_OK) and (place.is_file() or not place.exists())
