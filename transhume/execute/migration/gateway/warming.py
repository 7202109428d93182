"""Pre-warming: a running VM's memory goes to a destination's store before a move is decided.

At low priority, within a budget of bytes on the wire; scanned again and again, each time only what is new. A
migration that follows sends references almost only.
"""

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import structlog

from transhume.errors import UsageError
from transhume.execute.migration.gateway.departures import Departure, Departures, Warming
from transhume.execute.migration.gateway.gateway import Gateway
from transhume.execute.migration.gateway.guest_memory import (
    NoGuestMemory,
    Pages,
    Stretch,
    find_memory,
    read_pages,
)
from transhume.execute.migration.gateway.link import LinkLost
from transhume.execute.migration.splitting import PAGE_BYTES, Split

PAUSE_SECONDS = 5.0
"""Between two scans; longer where a scan takes long, so that it takes a small share of a processor."""
_REST = 4.0
"""Times as long as a scan took."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Kept:
    """A VM that is kept warm at a destination."""

    vm: str
    tenant: str
    destination: str
    departures: Departures
    departure: Departure
    most_wire_bytes: int | None
    scans: int = 0
    scanned_pages: int = 0
    """In the last whole scan."""
    known_pages: int = 0
    """Of those, what the destination had already."""
    warm_at: float | None = None
    """When the last whole scan ended, by the monotonic clock."""
    why_ended: str = ""
    task: "asyncio.Task[None] | None" = None


class Warmer:
    """The VMs that one gateway keeps warm elsewhere."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._kept: dict[tuple[str, str], _Kept] = {}

    async def begin(
        self,
        vm: str,
        tenant: str,
        destination: str,
        token: bytes,
        *,
        most_wire_bytes: int | None = None,
        passes: int | None = None,
    ) -> None:
        """Begin to send a VM's memory, until it's stopped, the budget is used, or so many scans are done.

        Raises:
            UsageError: the VM's memory can't be found here.
            Refused: the destination doesn't take the ticket.
            LinkLost: it can't be reached.
        """
        memory = self._memory(vm)
        self.stop(vm, destination)
        departures = await self._gateway.departures(destination)
        departure = await departures.request(vm, tenant, token)
        kept = _Kept(vm, tenant, destination, departures, departure, most_wire_bytes)
        self._kept[vm, destination] = kept
        kept.task = asyncio.create_task(self._keep(kept, memory, passes), name=f"warming {vm}")

    def stop(self, vm: str, destination: str) -> None:
        """Stop it; what was sent stays known."""
        kept = self._kept.pop((vm, destination), None)
        if kept is not None and kept.task is not None:
            kept.task.cancel()

    def status(self) -> list[dict[str, Any]]:
        """Tell of each VM what is known of it where it may go."""
        now = time.monotonic()
        return [
            {
                "vm": kept.vm,
                "tenant": kept.tenant,
                "destination": kept.destination,
                "scans": kept.scans,
                "scanned_pages": kept.scanned_pages,
                "known_pages": kept.known_pages,
                "age_seconds": None if kept.warm_at is None else now - kept.warm_at,
                "ended": kept.why_ended,
                "sent": asdict(kept.departure.sent),
            }
            for kept in self._kept.values()
        ]

    def _memory(self, vm: str) -> tuple[Stretch, ...]:
        try:
            pid = int((self._gateway.settings.pids / f"{vm}.pid").read_text())
            return find_memory(pid)
        except (OSError, ValueError, NoGuestMemory) as error:
            raise UsageError(
                f"the memory of {vm} can't be read at {self._gateway.site}: {error}; does it run here, "
                "and is `pids` in the gateway's configuration libvirt's folder?"
            ) from error

    async def _keep(self, kept: _Kept, memory: tuple[Stretch, ...], passes: int | None) -> None:
        warming = kept.departures.open_store(kept.departure)
        try:
            while passes is None or kept.scans < passes:
                began = time.monotonic()
                await self._scan(kept, warming, memory)
                if passes is None or kept.scans < passes:
                    await asyncio.sleep(max(PAUSE_SECONDS, _REST * (time.monotonic() - began)))
            kept.why_ended = "done"
        except _BudgetSpent:
            kept.why_ended = "its budget is spent"
        except (LinkLost, OSError) as error:
            kept.why_ended = str(error)
            log.warning("warming_ended", vm=kept.vm, destination=kept.destination, why=str(error))
        finally:
            warming.end()
            kept.departures.close(kept.departure)

    async def _scan(self, kept: _Kept, warming: Warming, memory: tuple[Stretch, ...]) -> None:
        pages = iter(read_pages(memory))
        scanned, before = 0, kept.departure.sent.new_pages
        while (piece := await asyncio.to_thread(next, pages, None)) is not None:
            scanned += len(piece)
            await self._send(kept, warming, piece)
        kept.scans += 1
        kept.scanned_pages = scanned
        kept.known_pages = scanned - (kept.departure.sent.new_pages - before)
        kept.warm_at = time.monotonic()

    async def _send(self, kept: _Kept, warming: Warming, pages: Pages) -> None:
        at = 0
        while at < len(pages):
            count = max(1, warming.batch_bytes // PAGE_BYTES)
            part = np.ascontiguousarray(pages[at : at + count])
            spent = kept.departure.sent.wire_bytes
            if kept.most_wire_bytes is not None and spent >= kept.most_wire_bytes:
                raise _BudgetSpent
            offsets = np.arange(len(part), dtype=np.int64) * PAGE_BYTES
            await warming.send(Split(part.data.cast("B"), offsets))
            at += count


class _BudgetSpent(Exception):
    pass
