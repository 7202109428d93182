"""How an operator writes where a machine's hypervisors are, for gateways and relays alike."""

from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from transhume.deployment.addresses import checked_address

WrittenAddress = Annotated[str, AfterValidator(checked_address)]
PidsFolder = Annotated[
    str, Field(description="libvirt's folder of process numbers, to find VMs' memory")
]
DEFAULT_PIDS = "/run/libvirt/qemu"


class Record(BaseModel):
    """What is read strictly."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SocketsSchema(Record):
    """Where hypervisors' sockets are. The same folder at every site, as libvirt sees it."""

    model_config = ConfigDict(title="Sockets")

    folder: str = Field(
        default="/run/libvirt/transhume", description="as the gateway, or a relay, sees it"
    )
    seen: str | None = Field(
        default=None, description="as libvirt sees it, if that is another name (a container's)"
    )

    def seen_from(self, folder: Path) -> PurePosixPath:
        """Return the folder as libvirt sees it; what is relative is so to a folder of ours."""
        return PurePosixPath(self.seen or folder / self.folder)
