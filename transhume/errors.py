"""Everything that Transhume raises on purpose.

    Error
    ├── TemporaryError        the same call may succeed later; the loop decides when
    │   ├── KnowledgeUnreachable
    │   ├── LeaseHeld
    │   ├── HypervisorUnreachable
    │   └── GatewayUnreachable
    └── PermanentError        a person has to change something
        ├── UsageError
        ├── InvalidFile       (a policy, deployment, price or availability file; carries every mistake found)
        ├── UnreadableCapture
        ├── UnreadableProgress
        ├── ExtraMissing
        ├── UnreadableRecord  (in `knowledge.codec`: a record in Redis that isn't what it should be)
        ├── LeaseLost
        ├── MoveFailed
        ├── DirtyRateUnknown
        ├── DiskUseUnknown
        ├── OverlayError
        ├── IdentityUnusable
        ├── PeerRefused
        ├── Refused
        ├── GatewayFailed
        └── LabError

Each leaf has a stable `code` and an exit status; errors carry fields, and the message is made from them.
"""

from dataclasses import dataclass
from typing import ClassVar


class Error(Exception):
    """Something that Transhume foresaw; the message says what failed, on what, and what to do."""

    code: ClassVar[str] = "TRANSHUME-E000"
    exit_status: ClassVar[int] = 1


class TemporaryError(Error):
    """The same call may succeed later."""

    exit_status = 75


class PermanentError(Error):
    """The same call will fail again until a person changes something."""


class KnowledgeUnreachable(TemporaryError):
    """No Redis answers."""

    code = "TRANSHUME-E010"


class LeaseHeld(TemporaryError):
    """Another daemon holds the pen."""

    code = "TRANSHUME-E011"

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"{holder} holds the lease; stop it, or wait until its lease runs out")


class HypervisorUnreachable(TemporaryError):
    """A libvirt daemon doesn't answer."""

    code = "TRANSHUME-E012"

    def __init__(self, host: str, uri: str, seen: str) -> None:
        self.host, self.uri, self.seen = host, uri, seen
        super().__init__(f"host {host}: {uri} doesn't answer ({seen}); is its libvirtd running?")


class GatewayUnreachable(TemporaryError):
    """A site's gateway doesn't answer."""

    code = "TRANSHUME-E013"

    def __init__(self, site: str, address: str, seen: str) -> None:
        self.site, self.address, self.seen = site, address, seen
        super().__init__(
            f"the gateway of {site} doesn't answer at {address} ({seen}); does `transhume gateway` run there?"
        )


class UsageError(PermanentError):
    """The command was given something it can't work with."""

    code = "TRANSHUME-E020"
    exit_status = 2


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in a file: where (both from 1), and what was seen and what to do instead."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class InvalidFile(PermanentError):
    """A file that a person wrote has mistakes; all that were found are in `mistakes`."""

    code = "TRANSHUME-E021"
    exit_status = 65

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(map(str, self.mistakes)))


class UnreadableCapture(PermanentError):
    """A file is no capture that we know."""

    code = "TRANSHUME-E022"
    exit_status = 65

    def __init__(self, path: str, seen: str) -> None:
        self.path, self.seen = path, seen
        super().__init__(f"{path}: {seen}")


class UnreadableProgress(PermanentError):
    """A Redis key in which an application should keep its progress holds something else."""

    code = "TRANSHUME-E024"
    exit_status = 65

    def __init__(self, key: str, seen: str) -> None:
        self.key, self.seen = key, seen
        super().__init__(
            f"Redis key {key}: {seen} is no progress; let the application write what is done of how much "
            "(SET key 120/4000), or the share that is done, from 0 to 1 (SET key 0.35)"
        )


class ExtraMissing(PermanentError):
    """An optional dependency isn't installed."""

    code = "TRANSHUME-E023"
    exit_status = 69

    def __init__(self, extra: str, what_for: str) -> None:
        self.extra = extra
        super().__init__(f"{what_for} needs the extra [{extra}]: pip install 'transhume[{extra}]'")


class LeaseLost(PermanentError):
    """This daemon's lease was taken by another: it may write no more."""

    code = "TRANSHUME-E030"

    def __init__(self, token: int) -> None:
        self.token = token
        super().__init__(
            f"the lease with fencing token {token} is lost; another daemon has the pen"
        )


class MoveFailed(PermanentError):
    """A live migration did not happen; the VM is where it was."""

    code = "TRANSHUME-E031"

    def __init__(self, vm: str, source: str, destination: str, seen: str) -> None:
        self.vm, self.source, self.destination, self.seen = vm, source, destination, seen
        super().__init__(f"{vm}: {source} to {destination}: {seen}")


class DirtyRateUnknown(PermanentError):
    """A hypervisor can't say how fast a VM writes to its memory."""

    code = "TRANSHUME-E034"

    def __init__(self, vm: str, host: str, seen: str) -> None:
        self.vm, self.host, self.seen = vm, host, seen
        super().__init__(f"{host} can't measure how fast {vm} writes to its memory: {seen}")


class DiskUseUnknown(PermanentError):
    """A hypervisor can't say how much a VM's disks hold."""

    code = "TRANSHUME-E035"

    def __init__(self, vm: str, host: str, seen: str) -> None:
        self.vm, self.host, self.seen = vm, host, seen
        super().__init__(f"{host} can't tell how much the disks of {vm} hold: {seen}")


class OverlayError(PermanentError):
    """The overlay can't be programmed, or isn't as it should be."""

    code = "TRANSHUME-E032"


class LabError(PermanentError):
    """The lab can't be built on this machine."""

    code = "TRANSHUME-E040"


class IdentityUnusable(PermanentError):
    """A certificate, its key or its authority is missing, expired, or fits nothing."""

    code = "TRANSHUME-E050"
    exit_status = 65

    def __init__(self, path: str, seen: str, remedy: str) -> None:
        self.path, self.seen, self.remedy = path, seen, remedy
        super().__init__(f"{path}: {seen}; {remedy}")


class PeerRefused(PermanentError):
    """Whoever is at the other end of a connection isn't who should be there."""

    code = "TRANSHUME-E051"
    exit_status = 77

    def __init__(self, expected: str, seen: str) -> None:
        self.expected, self.seen = expected, seen
        super().__init__(f"{expected} was expected at the other end of a connection, but {seen}")


class Refused(PermanentError):
    """A site doesn't admit a migration."""

    code = "TRANSHUME-E052"
    exit_status = 77

    def __init__(self, vm: str, source: str, reason: str, seen: str) -> None:
        self.vm, self.source, self.reason, self.seen = vm, source, reason, seen
        super().__init__(f"VM {vm} from site {source} isn't admitted: {seen}")


class GatewayFailed(PermanentError):
    """A site's gateway can't do what it was asked for."""

    code = "TRANSHUME-E053"

    def __init__(self, site: str, asked: str, seen: str) -> None:
        self.site, self.asked, self.seen = site, asked, seen
        super().__init__(f"the gateway of {site} can't do `{asked}`: {seen}")
