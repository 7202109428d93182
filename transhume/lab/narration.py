"""How the lab says what it is doing while a person waits: the stage, and what happens in it right now."""

from typing import Protocol


class Narrator(Protocol):
    """Told of each stage by its name, again and again while it lasts."""

    def __call__(self, stage: str, detail: str = "") -> None:
        """Take note; a stage ends when another begins."""


def silent(stage: str, detail: str = "") -> None:
    """Tell nobody."""
