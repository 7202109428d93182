"""Pre-warming: a running VM's memory goes to a destination's store before a move is decided.

At low priority, within a budget of bytes on the wire, and at a rate that all VMs on their way to the same
destination share; scanned again and again, each time only what is new. A migration that follows sends
references almost only; while its hypervisor sends all of its memory, nobody else reads it. On request the VM's
own disk images follow its memory, once and within half of the budget: memory goes on changing, and needs the
rest.
"""

import asyncio
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import structlog

from transhume.errors import UsageError
from transhume.execute.migration.coding.sender import Sender
from transhume.execute.migration.gateway.departure import Departure
from transhume.execute.migration.gateway.departures import FAILED, Departures, Warming
from transhume.execute.migration.gateway.gateway import Gateway
from transhume.execute.migration.gateway.link import LinkLost
from transhume.execute.migration.machine.guest_memory import NoGuestMemory, Pages
from transhume.execute.migration.machine.hypervisors import Hypervisors, Part
from transhume.execute.migration.splitting import PAGE_BYTES, Split
from transhume.knowledge.model import Transfer

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
    log: bytes
    """The name of the log of pages that are known there; another takes its place when they turn out to be
    forgotten."""
    scans: int = 0
    scanned_pages: int = 0
    """In the last whole scan."""
    known_pages: int = 0
    """Of those, what the destination had already; after the first scan, from which nobody knows yet how much
    changes, all that it has by now, unless it's more than is kept there: the next move would push it out."""
    image_pages: int = 0
    """Blocks of its images that were read, and are known there."""
    warm_at: float | None = None
    """When the last whole scan ended, by the monotonic clock."""
    why_ended: str = ""
    broke_off: bool = False
    """Whether it was to go on."""
    task: "asyncio.Task[None] | None" = None

    @property
    def sender(self) -> Sender:
        """Tells of the pages that are known there."""
        return self.departure.desk.domain.sender

    def forget(self) -> None:
        """Take note that what was sent is of no use to the VM's next move."""
        self.known_pages = self.image_pages = 0


class Warmer:
    """The VMs that one gateway keeps warm elsewhere."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._beginning: dict[tuple[str, str], object] = {}
        """The latest that was asked for of each; none where it was stopped since."""

    async def begin(
        self,
        vm: str,
        tenant: str,
        destination: str,
        token: bytes,
        *,
        most_wire_bytes: int | None = None,
        bytes_per_second: float | None = None,
        passes: int | None = None,
        disks: bool = False,
    ) -> None:
        """Begin to send a VM's memory, until it's stopped, the budget is used, or so many scans are done.

        Args:
            vm, tenant: who, and whose it is.
            destination: a peer.
            token: of a ticket for it.
            most_wire_bytes: the budget.
            bytes_per_second: at most so much goes to the destination ahead of moves, of all VMs together.
            passes: how many scans of its memory.
            disks: whether its own images are to follow.

        Raises:
            UsageError: the VM's memory can't be found here.
            Refused: the destination doesn't take the ticket.
            LinkLost: it can't be reached.
        """
        self.stop(vm, destination)
        beginning = self._beginning[vm, destination] = object()
        hypervisors = await self._hypervisors_of(vm, disks=disks)
        departures = await self._gateway.departures(destination)
        departure = await departures.request(vm, tenant, token)
        if self._beginning.get((vm, destination)) is not beginning:
            departures.close(departure)
            raise UsageError(f"{vm} isn't to be kept warm at {destination} any more")
        member = departure.member = self._gateway.gangs.join_warming(destination, bytes_per_second)
        log_name = departure.desk.domain.sender.log.name
        kept = _Kept(vm, tenant, destination, departures, departure, most_wire_bytes, log_name)
        self._kept[vm, destination] = kept
        keeping = self._keep(kept, hypervisors, passes, disks=disks)
        kept.task = asyncio.create_task(keeping, name=f"warming {vm}")
        kept.task.add_done_callback(lambda _: member.leave())  # also where it never began

    def stop(self, vm: str, destination: str) -> Transfer | None:
        """Stop it, and return what was sent, which stays known; None where nothing was to be stopped."""
        self._beginning.pop((vm, destination), None)
        kept = self._kept.pop((vm, destination), None)
        if kept is None:
            return None
        if kept.task is not None:
            kept.task.cancel()
        return kept.departure.sent

    def status(self) -> list[dict[str, Any]]:
        """Tell of each VM what is known of it where it may go."""
        now = time.monotonic()
        for kept in self._kept.values():
            if kept.sender.log.name != kept.log:
                kept.forget()
        return [
            {
                "vm": kept.vm,
                "tenant": kept.tenant,
                "destination": kept.destination,
                "scans": kept.scans,
                "scanned_pages": kept.scanned_pages,
                "known_pages": kept.known_pages,
                "image_pages": kept.image_pages,
                "age_seconds": None if kept.warm_at is None else now - kept.warm_at,
                "ended": kept.why_ended,
                "broke_off": kept.broke_off,
                "sent": asdict(kept.departure.sent),
            }
            for kept in self._kept.values()
        ]

    async def _hypervisors_of(self, vm: str, *, disks: bool) -> Hypervisors:
        hypervisors = await self._gateway.relays.having(vm)
        for part in (Part.MEMORY, Part.IMAGES) if disks else (Part.MEMORY,):
            try:
                await hypervisors.look_for(vm, part)
            except NoGuestMemory as error:
                raise UsageError(
                    f"the {part} of {vm} can't be read at {self._gateway.site}: {error}; does it run there, "
                    "and is `pids` in the gateway's (or its host's relay's) configuration libvirt's folder?"
                ) from error
        return hypervisors

    async def _keep(
        self, kept: _Kept, hypervisors: Hypervisors, passes: int | None, *, disks: bool
    ) -> None:
        warming = kept.departures.open_store(kept.departure)
        try:
            while passes is None or kept.scans < passes:
                began = time.monotonic()
                await self._scan(kept, warming, hypervisors)
                if disks:
                    await self._send_images(kept, warming, hypervisors)
                    disks = False
                if passes is None or kept.scans < passes:
                    await asyncio.sleep(max(PAUSE_SECONDS, _REST * (time.monotonic() - began)))
            kept.why_ended = "done"
        except _BudgetSpent:
            kept.why_ended = "its budget is spent"
        except (LinkLost, NoGuestMemory, OSError) as error:
            kept.why_ended, kept.broke_off = str(error), True
            if isinstance(error, NoGuestMemory):
                kept.forget()
            log.warning("warming_ended", vm=kept.vm, destination=kept.destination, why=str(error))
        except Exception:
            kept.why_ended, kept.broke_off = FAILED, True
            log.exception("warming_failed", vm=kept.vm, destination=kept.destination)
        finally:
            warming.end()
            kept.departures.close(kept.departure)

    async def _scan(self, kept: _Kept, warming: Warming, hypervisors: Hypervisors) -> None:
        scanned, before = 0, kept.departure.sent.new_pages
        async with aclosing(hypervisors.pages(kept.vm, Part.MEMORY)) as pieces:
            async for piece in pieces:
                if self._gateway.sends_memory_of(kept.vm):
                    return
                scanned += len(piece)
                await self._send(kept, warming, piece)
        kept.scans += 1
        kept.scanned_pages = scanned
        new_pages = kept.departure.sent.new_pages - before
        stay = kept.scans == 1 and new_pages * PAGE_BYTES <= kept.sender.limit_bytes
        kept.known_pages = scanned if stay else scanned - new_pages
        kept.warm_at = time.monotonic()

    async def _send_images(self, kept: _Kept, warming: Warming, hypervisors: Hypervisors) -> None:
        """Send what images hold, as far as half of the budget goes."""
        async with aclosing(hypervisors.pages(kept.vm, Part.IMAGES)) as pieces:
            async for piece in pieces:
                if _half_spent(kept):
                    log.info("images_warmed_in_part", vm=kept.vm, blocks=kept.image_pages)
                    return
                await self._send(kept, warming, piece)
                kept.image_pages += len(piece)

    async def _send(self, kept: _Kept, warming: Warming, pages: Pages) -> None:
        at = 0
        while at < len(pages):
            count = max(1, warming.stride.most_bytes // PAGE_BYTES)
            part = np.ascontiguousarray(pages[at : at + count])
            spent = kept.departure.sent.wire_bytes
            if kept.most_wire_bytes is not None and spent >= kept.most_wire_bytes:
                raise _BudgetSpent
            offsets = np.arange(len(part), dtype=np.int64) * PAGE_BYTES
            await warming.send(Split(part.data.cast("B"), offsets))
            at += count


def _half_spent(kept: _Kept) -> bool:
    most = kept.most_wire_bytes
    return most is not None and 2 * kept.departure.sent.wire_bytes >= most


class _BudgetSpent(Exception):
    pass
