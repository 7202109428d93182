"""Where compiled code is: in this package, beside this module, or in the user's cache.

For x86-64 it comes with the package, so that nobody waits for a compiler (`make kernel` makes it anew). For
others it is compiled once and kept: beside this module, or in the user's cache where that can't be written. A
kept file's name holds digests of the sources and of the processor that it was made for, so that another version
or another machine never gets the wrong one; its first bytes are a digest of the rest, so that half a file is
none. Where nothing can be written, nothing is kept, and nothing fails.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final
from uuid import uuid4

_HERE: Final = Path(__file__).parent
_SOURCES: Final = (
    "../clocks.py", "../counts.py", "../decode.py", "../links.py", "../stops.py",
    "build.py", "counting.py", "framing.py", "kernel.py", "memory.py", "plan.py",
)  # fmt: skip
"""All that the code is made from."""
_DIGEST_BYTES = 16
_SHIPPED: Final = _HERE / f"kernel-{os.uname().machine}.o"
"""For any processor of this architecture. Its first bytes are a digest of the sources and of the rest."""


def code(processor: str) -> bytes | None:
    """Return the code for a processor; None where there is none, or none in one piece."""
    return shipped() or _kept(processor)


def shipped() -> bytes | None:
    """Return the code that came with the package; None where that is not for this architecture and sources."""
    try:
        raw = _SHIPPED.read_bytes()
    except OSError:
        return None
    made = raw[_DIGEST_BYTES:]
    return made if raw[:_DIGEST_BYTES] == _digest(_sources().encode() + made) else None


def ship(made: bytes) -> None:
    """Write code that is to come with the package."""
    _SHIPPED.write_bytes(_digest(_sources().encode() + made) + made)


def _kept(processor: str) -> bytes | None:
    for folder in _folders():
        with suppress(OSError):
            raw = (folder / _name(processor)).read_bytes()
            if raw[:_DIGEST_BYTES] == _digest(raw[_DIGEST_BYTES:]):
                return raw[_DIGEST_BYTES:]
    return None


def keep(made: bytes, processor: str) -> None:
    """Write code to the first folder that can be written; to none where none can."""
    for folder in _folders():
        temporary = folder / f".{_name(processor)}.{uuid4().hex}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(_digest(made) + made)
            temporary.replace(folder / _name(processor))
        except OSError:
            with suppress(OSError):
                temporary.unlink()
        else:
            return


def probably_kept() -> bool:
    """Return whether there is code of these sources, for whatever processor; which takes no import to tell."""
    return shipped() is not None or any(
        any(folder.glob(f"scan-{_sources()}-*.o")) for folder in _folders()
    )


def _folders() -> Iterator[Path]:
    yield _HERE / "__pycache__"
    with suppress(RuntimeError):  # nobody's home
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        yield Path(home) / "transhume"


def _name(processor: str) -> str:
    return f"scan-{_sources()}-{_digest(processor.encode()).hex()}.o"


@cache
def _sources() -> str:
    sources = b"".join((_HERE / source).read_bytes() for source in _SOURCES)
    return _digest(sources).hex()


def _digest(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=_DIGEST_BYTES).digest()
