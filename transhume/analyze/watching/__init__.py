"""Watching: what was told already, so that what flaps about a threshold is told once.

Each module owns one kind of change: a frozen memory, whose `look` at a snapshot returns what is news and the
memory for the next look.
"""

News = list[tuple[str, str]]
"""What is news: the name of what it is about, and one line for a person."""
