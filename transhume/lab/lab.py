"""A lab as a whole: up, status, a command in a guest, down.

Owns the order of things. What was specified is kept as JSON beside the sockets and logs, so that any process
can speak to a running lab; what is really there is always asked anew. One lab a machine: its namespaces have
fixed names.
"""

import asyncio
import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from transhume.deployment.model import OverlayNetwork
from transhume.errors import LabError
from transhume.execute.overlay import VxlanOverlay
from transhume.knowledge.model import CloudName
from transhume.lab import agents, guests, leftovers
from transhume.lab.cloud import Cloud
from transhume.lab.deployment_file import DEPLOYMENT, overlay_network, write_deployment
from transhume.lab.disks import Disks, cached_image, receiving_command
from transhume.lab.gateways import start_gateways
from transhume.lab.guests import Answer, Counter
from transhume.lab.host_packages import install_missing, need_root
from transhume.lab.initramfs import build_initramfs
from transhume.lab.narration import Narrator, silent
from transhume.lab.network import build_network, lab_namespaces
from transhume.lab.root import CACHE, Root, cached_root
from transhume.lab.spec import RECORD, STATE, CloudSpec, GuestSpec, LabSpec

_BOOT_PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudStatus:
    """What a cloud of the lab is doing."""

    name: CloudName
    uri: str
    guests: tuple[str, ...]
    """Those that run there."""
    trouble: str | None = None
    """Why it can't say."""


class Lab:
    """The lab whose state is in one directory; built by `up`, or found there."""

    def __init__(
        self,
        state: Path = STATE,
        *,
        cache: Path = CACHE,
        image: Path | None = None,
        mirror: str | None = None,
    ) -> None:
        """Take the lab in a directory.

        Args:
            state: the directory.
            cache: where roots and images are kept for the next lab.
            image: an ext4 file system of `IMAGE_MIB` for the guests' disks; None: a small Debian.
            mirror: of Debian.
        """
        self.state = state
        self._cache = cache
        self._image = image
        self._mirror = mirror

    @property
    def deployment(self) -> Path:
        """The file that `transhume run --config` takes."""
        return self.state / DEPLOYMENT

    @property
    def spec(self) -> LabSpec:
        """What was built.

        Raises:
            LabError: there is no lab.
        """
        try:
            return _SPEC_FORMAT.validate_json((self.state / RECORD).read_bytes())
        except (FileNotFoundError, ValidationError) as error:
            raise LabError(f"no lab in {self.state}; `transhume lab up` makes one") from error

    @property
    def network(self) -> OverlayNetwork:
        """The overlay that joins the clouds and the gateway site."""
        return overlay_network(self.spec)

    def cloud(self, name: str) -> Cloud:
        """Return a cloud of the lab."""
        return Cloud(self.spec.cloud(CloudName(name)), self.state)

    def up(self, spec: LabSpec, tell: Narrator = silent) -> None:
        """Build it all and return when every guest answers.

        Raises:
            LabError: this machine can't, or there is a lab already.
        """
        need_root()
        with self._alone():
            self.refuse_another()
            install_missing(tell)
            root = cached_root(tell, cache=self._cache, mirror=self._mirror)
            self._build(spec, root, tell)

    def refuse_another(self) -> None:
        """Raise `LabError` where a lab is up already, in this directory or in any other."""
        if lab_namespaces() or self.state.exists():
            raise LabError("there is a lab already, or a part of one; `transhume lab down` first")

    def down(self, tell: Narrator = silent) -> None:
        """Remove the lab, or what is left of one; nothing there is no mistake."""
        need_root()
        with self._alone():
            tell("removing the lab")
            leftovers.remove_everything(self.state)

    def status(self) -> tuple[CloudStatus, ...]:
        """Ask every cloud what it runs."""
        return tuple(map(self._cloud_status, self.spec.clouds))

    def execute(self, vm: str, command: str, *, timeout_s: float = 30.0) -> Answer:
        """Run a command line in a guest, wherever that is.

        Raises:
            LabError: the guest doesn't answer.
        """
        guest = self.spec.guest(vm)
        try:
            return guests.run_in_guest(guest.ip, command, timeout_s=timeout_s)
        except OSError as error:
            raise LabError(f"{vm} ({guest.ip}) doesn't answer: {error}") from error

    def make_room(self, vm: str, cloud: str) -> None:
        """Make a disk in a cloud for a guest to bring its storage to, in place of any that is left there.

        Raises:
            LabError: the cloud refused.
            UsageError: the guest has no disk of its own.
        """
        self.cloud(cloud).execute(*receiving_command(self.spec.guest(vm)))

    def counters(self, vm: str) -> tuple[Counter, ...]:
        """Read what a guest's agent has counted.

        Raises:
            LabError: the guest doesn't answer.
        """
        guest = self.spec.guest(vm)
        try:
            return guests.counters(guest.ip)
        except OSError as error:
            raise LabError(f"{vm} ({guest.ip}) doesn't answer: {error}") from error

    def _build(self, spec: LabSpec, root: Root, tell: Narrator) -> None:
        tell("network namespaces and WAN")
        folder = self.state / "guest"
        self.state.mkdir(parents=True)
        (self.state / RECORD).write_bytes(_SPEC_FORMAT.dump_json(spec))
        folder.mkdir()
        build_network(spec, self.state)
        tell("the guests' kernel and initramfs")
        shutil.copy(root.kernel, folder / "vmlinuz")
        build_initramfs(root, folder)
        disks = None
        if any(guest.disk for guest in spec.guests):
            image = self._image or cached_image(root, tell)
            disks = Disks(image=image, guests=spec.guests)
        clouds = [Cloud(cloud, self.state) for cloud in spec.clouds]
        for cloud in clouds:
            tell("libvirt daemons", f"cloud {cloud.spec.name}")
            cloud.start(root, folder, disks)
        if spec.gateways:
            tell("gateways")
            start_gateways(clouds, disks.image if disks else None, self.state)
        deployment = write_deployment(spec, clouds, self.state)
        tell("overlay")
        if spec.agents:
            self._start_agents(spec, deployment)
        else:
            asyncio.run(self._join_overlay(spec))
        for cloud in clouds:
            theirs = [guest for guest in spec.guests if guest.cloud == cloud.spec.name]
            tell("guests", f"starting {len(theirs)} in cloud {cloud.spec.name}")
            guests.boot(cloud.uri, theirs)
        self._wait_for(spec.guests, tell)

    def _start_agents(self, spec: LabSpec, deployment: Path) -> None:
        shutil.copy(deployment, self.state / agents.CONFIGURATION)
        agents.start_knowledge(self.state)
        sites = [site.name for site in overlay_network(spec).sites]
        for site in sites:
            agents.start_agent(site, self.state)
        agents.wait_for_agents(sites, self.state)

    async def _join_overlay(self, spec: LabSpec) -> None:
        overlay = VxlanOverlay(overlay_network(spec))
        await overlay.join()
        for guest in spec.guests:
            await overlay.bind([guest.mac], guest.cloud)

    def _wait_for(self, expected: tuple[GuestSpec, ...], tell: Narrator) -> None:
        for number, guest in enumerate(expected):
            tell("guests", f"{number} of {len(expected)} answer, waiting for {guest.name}")
            if not guests.wait_until_up(guest.ip, patience_s=_BOOT_PATIENCE_S):
                console = self.state / guest.cloud / f"log/{guest.name}.console"
                raise LabError(f"{guest.name} doesn't boot; its console is in {console}")

    def _cloud_status(self, cloud: CloudSpec) -> CloudStatus:
        uri = Cloud(cloud, self.state).uri
        try:
            return CloudStatus(name=cloud.name, uri=uri, guests=guests.running(uri))
        except LabError as error:
            return CloudStatus(name=cloud.name, uri=uri, guests=(), trouble=str(error))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self.state.with_name(f"{self.state.name}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LabError("another `transhume lab` is at work; wait for it") from error
            yield


_SPEC_FORMAT = TypeAdapter(LabSpec)
