"""What a demonstration needs of its stage."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from transhume.knowledge.model import PriceTick
from transhume.knowledge.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A stage to be set up in a folder, and the price that the story turns on."""

    stage: Callable[[Path, Console], AbstractAsyncContextManager[Store]]
    rise: Callable[[], PriceTick]
    patience_seconds: float
