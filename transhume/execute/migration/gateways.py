"""Carries migrations by the two sites' gateways: admitted by the one, sent by the other.

Moves within a cloud, and those between clouds of which one has no gateway, go straight from host to host.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from transhume.errors import Error, MoveFailed
from transhume.execute.migration.control_client import GatewayClient, progress_of, transfer_of
from transhume.execute.migration.transport import Progress, Route, Share
from transhume.knowledge.model import CloudName, HostName, Transfer, VmName


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """The federation's gateways, as a transport."""

    clients: Mapping[CloudName, GatewayClient]
    cloud_of: Callable[[HostName], CloudName]
    tenant_of: Callable[[VmName], str]

    @asynccontextmanager
    async def route(
        self, vm: VmName, source: HostName, destination: HostName, share: Share | None = None
    ) -> AsyncIterator[Route]:
        """Have a VM admitted at its destination and a way there opened; both end with the context.

        Raises:
            MoveFailed: a gateway refuses it, or doesn't answer.
        """
        ends = self.cloud_of(source), self.cloud_of(destination)
        if ends[0] == ends[1] or not all(cloud in self.clients for cloud in ends):
            yield Route()
            return
        sender = self.clients[ends[0]]
        migration = secrets.token_hex(8)
        try:
            sockets = await self._open(migration, vm, (source, destination), share)
        except Error as error:
            raise MoveFailed(vm, source, destination, str(error)) from error

        async def progress(remaining_bytes: int | None) -> Progress | None:
            with suppress(Error):
                asked = {"migration": migration, "remaining_bytes": remaining_bytes}
                return progress_of(await sender.ask("progress", **asked))
            return None

        async def tell_of_pause(stands_still: bool) -> None:
            with suppress(Error):
                await sender.ask("pause", migration=migration, stands_still=stands_still)

        try:
            yield Route(
                migrate_uri=f"unix://{sockets['ram']}",
                disks_uri=f"unix://{sockets['disks']}",
                progress=progress,
                tell_of_pause=tell_of_pause,
                link=ends,
            )
        finally:
            # A gateway that is gone has nothing to be closed; the ticket was used, or runs out by itself.
            with suppress(Error):
                await sender.ask("close", migration=migration)

    async def warm(
        self,
        vm: VmName,
        source: CloudName,
        destination: CloudName,
        *,
        most_wire_bytes: int | None = None,
        bytes_per_second: float | None = None,
        passes: int | None = None,
        disks: bool = False,
    ) -> None:
        """Begin to send a running VM's memory to where it may go.

        Args:
            vm: it runs at the source.
            source, destination: clouds with gateways.
            most_wire_bytes: when so much is sent, it ends.
            bytes_per_second: what may be sent ahead from there to there, of all VMs together; the lowest
                that is given for any of them counts.
            passes: after so many scans it ends; None: when it's stopped.
            disks: whether its own disk images are sent, too, as far as half of the budget goes.

        Raises:
            GatewayUnreachable, GatewayFailed, Refused: it can't begin.
        """
        sender, receiver = self.clients[source], self.clients[destination]
        tenant = self.tenant_of(vm)
        async with _admitted(
            receiver,
            migration=secrets.token_hex(8),
            vm=vm,
            tenant=tenant,
            source=sender.address.site,
            warm=True,
        ) as admitted:
            await sender.ask(
                "warm",
                vm=vm,
                tenant=tenant,
                destination=receiver.address.site,
                ticket=admitted["ticket"],
                most_wire_bytes=most_wire_bytes,
                bytes_per_second=bytes_per_second,
                passes=passes,
                disks=disks,
            )

    async def cool(self, vm: VmName, source: CloudName, destination: CloudName) -> Transfer | None:
        """Stop sending a VM's memory ahead; what was sent stays known.

        Returns:
            What was sent since it began; None where the gateway knows of nothing that began.

        Raises:
            GatewayUnreachable, GatewayFailed: it can't be stopped.
        """
        answer = await self.clients[source].ask(
            "cool", vm=vm, destination=self.clients[destination].address.site
        )
        return transfer_of(answer) if answer else None

    async def broken_off(self, source: CloudName) -> set[tuple[str, str]]:
        """Name the VMs whose memory was to be sent on from a cloud, and isn't, and where to.

        Raises:
            GatewayUnreachable, GatewayFailed: its gateway doesn't say.
        """
        told = await self.clients[source].ask("status")
        return {
            (kept["vm"], kept["destination"]) for kept in told["warming"] if kept.get("broke_off")
        }

    async def _open(
        self,
        migration: str,
        vm: VmName,
        way: tuple[HostName, HostName],
        share: Share | None,
    ) -> dict[str, str]:
        source, destination = way
        sender, receiver = (self.clients[self.cloud_of(host)] for host in way)
        tenant = self.tenant_of(vm)
        async with _admitted(
            receiver,
            migration=migration,
            vm=vm,
            tenant=tenant,
            source=sender.address.site,
            host=destination,
        ) as admitted:
            await sender.ask(
                "open",
                migration=migration,
                vm=vm,
                tenant=tenant,
                destination=receiver.address.site,
                ticket=admitted["ticket"],
                host=source,
                share=asdict(share) if share else None,
            )
        sockets: dict[str, str] = admitted["sockets"]
        return sockets


@asynccontextmanager
async def _admitted(receiver: GatewayClient, **words: object) -> AsyncIterator[dict[str, Any]]:
    """Have a VM admitted; a ticket that leads to nothing is given back: only so many may be out."""
    admitted = await receiver.ask("admit", **words)
    try:
        yield admitted
    except BaseException:
        with suppress(Error):
            await receiver.ask("withdraw", admission=admitted["admission"])
        raise
