"""The six programs: what each is asked to send, and the pattern that its traffic should be seen as."""

from dataclasses import dataclass
from pathlib import Path

from transhume.knowledge.model import PatternKind

SOURCES = Path(__file__).parent / "sources"
KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program in C and how it is called."""

    name: str
    pattern: PatternKind
    message_bytes: int
    rounds: int

    @property
    def source(self) -> Path:
        """The file to compile."""
        return SOURCES / f"{self.name}.c"

    def arguments(self, seed: int) -> tuple[str, ...]:
        """What is given to it on the command line; the seed draws what a program leaves to chance."""
        return str(self.message_bytes), str(self.rounds), str(seed)


PROGRAMS = (
    Program(name="ring", pattern=PatternKind.RING, message_bytes=256 * KIB, rounds=24),
    Program(name="halo", pattern=PatternKind.GRID, message_bytes=128 * KIB, rounds=24),
    Program(name="all_to_all", pattern=PatternKind.ALL_TO_ALL, message_bytes=64 * KIB, rounds=12),
    Program(
        name="master_worker", pattern=PatternKind.MASTER_WORKER, message_bytes=512 * KIB, rounds=12
    ),
    Program(name="butterfly", pattern=PatternKind.BUTTERFLY, message_bytes=256 * KIB, rounds=12),
    Program(name="sparse", pattern=PatternKind.NONE, message_bytes=512 * KIB, rounds=16),
)
