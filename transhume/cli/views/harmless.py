"""Text that can't do anything to a terminal: names come from hypervisors, files and people.

A name may hold what moves a cursor, or what looks like Rich's markup. Whatever is printed for a person goes
through here; JSON escapes it anyway, and the report's template engine does so too.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def harmless(words: str) -> str:
    """Return the words with all that isn't printable replaced; lines stay lines."""
    return "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in words)


def text(*parts: str | tuple[str, str]) -> "Text":
    """Put text together, of words and of (words, style); markup in it means nothing."""
    from rich.text import Text

    styled = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((harmless(words), style) for words, style in styled))
