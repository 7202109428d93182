"""Who wants to know of lifecycle events hears of them, also of a host that couldn't be reached at first."""

from collections.abc import Callable
from typing import Any

from transhume.errors import HypervisorUnreachable
from transhume.execute.hypervisor.lifecycles import Lifecycles
from transhume.knowledge.model import HostName

HOST = HostName("a1")


class Domain:
    def name(self) -> str:
        return "vm1"


class Connection:
    """Takes one listener, as libvirt's do, and can be made to tell."""

    def domainEventRegisterAny(  # noqa: N802
        self, _domain: None, _kind: int, callback: Callable[..., None], host: HostName
    ) -> int:
        self.tell = lambda event: callback(self, Domain(), event, 0, host)
        return 0


class Connections:
    def __init__(self) -> None:
        self.connection: Connection | None = None

    async def call(self, host: HostName, what: Callable[[Any], Any]) -> Any:
        if self.connection is None:
            raise HypervisorUnreachable(host, "qemu:///system", "it is down")
        return what(self.connection)


async def test_a_host_that_was_down_is_heard_of_once_it_is_reached() -> None:
    connections, heard = Connections(), []
    lifecycles = Lifecycles(connections)  # type: ignore[arg-type]
    async with lifecycles.told(HOST, lambda vm, event: heard.append((vm, event))):
        connections.connection = Connection()
        await lifecycles.listen(HOST)
        connections.connection.tell(3)
    assert heard == [("vm1", 3)]
