"""Packet rules, by the library behind the command `nft`.

Owns the calls into libnftables (there is no binding on PyPI). A script is one transaction: all of it holds, or
nothing. The library keeps state of its own while contexts are made, so that threads take turns.
"""

import ctypes
from contextlib import suppress
from functools import cache
from threading import Lock
from typing import Any

from transhume.errors import OverlayError
from transhume.reach.netns import inside

LIBRARY = "libnftables.so.1"
_turns = Lock()


class RulesRefused(Exception):
    """The kernel or the library doesn't take a script; whoever knows the site says so in his own words."""

    def __init__(self, seen: str) -> None:
        self.seen = seen
        super().__init__(f"nftables refused the rules: {seen}")


def run(netns: str | None, script: str) -> str:
    """Carry out commands as of `nft -f` in a network namespace; return what they print.

    Raises:
        OverlayError: the library is missing.
        RulesRefused: what was asked is refused.
    """
    library = _library()
    with _turns, inside(netns):
        context = library.nft_ctx_new(0)
        try:
            library.nft_ctx_buffer_output(context)
            library.nft_ctx_buffer_error(context)
            if library.nft_run_cmd_from_buffer(context, script.encode()) != 0:
                said = bytes(library.nft_ctx_get_error_buffer(context)).decode(errors="replace")
                raise RulesRefused(" ".join(said.split()) or "no reason given; is this root?")
            return bytes(library.nft_ctx_get_output_buffer(context)).decode(errors="replace")
        finally:
            library.nft_ctx_free(context)


def delete_table(netns: str | None, family: str, table: str) -> None:
    """Delete a table; it needn't be there."""
    with suppress(RulesRefused):
        run(netns, f"delete table {family} {table}")


def table_text(netns: str | None, family: str, table: str) -> str:
    """Return a table as `nft list table` prints it; nothing where there is none."""
    with suppress(RulesRefused):
        return run(netns, f"list table {family} {table}")
    return ""


@cache
def _library() -> Any:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise OverlayError(
            f"{LIBRARY} can't be loaded ({error}); the overlay keeps strangers out with it: install the "
            "Debian package libnftables1 (elsewhere it comes with nftables)"
        ) from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library
