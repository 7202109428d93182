"""The tables of the terminal: a rule below the heading, words to the left, numbers to the right."""

from rich import box
from rich.table import Table


def table(*columns: str, gap: int = 2) -> Table:
    """Return a table with columns of words, which go on in the next line where they are too long."""
    made = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap, 0, 0),
        caption_justify="left",
    )
    for name in columns:
        made.add_column(name, overflow="fold")
    return made


def add_numbers(made: Table, *columns: str) -> None:
    """Add columns of numbers."""
    for name in columns:
        made.add_column(name, justify="right", no_wrap=True)
