"""What it takes to move a VM with a large disk of its own, most of which stands in an image at both sites.

Needs root; `python -m benchmarks.bench_disks [--wan 100mbit] [--own 160] [--without]`. The image is the lab's
small Debian filled up with random data; the disk is a qcow2 copy of it that refers to nothing, in which the
guest has written a file of random data, and goes on to write others. The WAN takes 20 ms each way; bytes are
counted at the clouds' interfaces, memory and headers included. Afterwards the guest reads back all that it
has, and then, when it has ended, its disk's file system is checked and its files are read from outside.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import WIDTH, keep
from benchmarks.migration.outside import sent_bytes
from benchmarks.migration.scenarios import DELAY_SECONDS
from tests.system.disk_moves import (
    A1,
    B1,
    COPY,
    MIB,
    VM1,
    allocated_bytes,
    assert_file_system_is_clean,
    assert_files_are_read_back_as_written,
    end_with_a_clean_disk,
    file_of,
    move,
)
from transhume.knowledge.model import HostName, Measurement
from transhume.lab.disks import cached_image, fill_image
from transhume.lab.lab import Lab
from transhume.lab.narration import silent
from transhume.lab.network import lab_namespaces
from transhume.lab.root import cached_root
from transhume.lab.spec import DiskSpec, LabSpec, plan_lab
from transhume.quantities import parse_rate

FILES, FILE_MIB = 22, 64
BLOCK = 4096
OWN = "/disk/mine"
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a move took."""

    way: str
    allocated_bytes: int
    sent_bytes: int
    seconds: float
    pause_seconds: float | None

    @property
    def share(self) -> float:
        """What was sent, over what the disk takes."""
        return self.sent_bytes / self.allocated_bytes


def spec(wan_bytes_per_second: float) -> LabSpec:
    planned = plan_lab(
        clouds=2,
        vms=1,
        clusters=1,
        memory_mib=192,
        wan_bytes_per_second=wan_bytes_per_second,
        wan_delay_seconds=DELAY_SECONDS,
        disk=DiskSpec(backed=False, own_mib=4),
        gateways=True,
    )
    return replace(planned, guests=tuple(replace(guest, sends={}) for guest in planned.guests))


def large_image(folder: Path) -> Path:
    """Make the image, about 1.6 GB of data in a file system of 2 GiB."""
    image, random = folder / "image", np.random.default_rng(7)
    plain = cached_image(cached_root(silent), silent)
    subprocess.run(["cp", "--sparse=always", plain, image], check=True)
    files = {f"more-{number}": folder / f"more-{number}" for number in range(FILES)}
    for path in files.values():
        path.write_bytes(random.bytes(FILE_MIB * MIB))
    fill_image(image, files)
    for path in files.values():
        path.unlink()
    return image


def in_guest(lab: Lab, command: str) -> str:
    answer = lab.execute(VM1, command, timeout_s=PATIENCE_SECONDS)
    if answer.status:
        raise RuntimeError(f"{command} in the guest: {answer.output}")
    return answer.output


def sums_in_guest(lab: Lab) -> str:
    """Read the file that only the guest has and two of the image's from the disk; return their sums."""
    drop = "sync; echo 3 >/proc/sys/vm/drop_caches"
    return in_guest(lab, f"{drop}; md5sum {OWN} /disk/more-0 /disk/more-{FILES - 1}")


def measured_move(
    lab: Lab, source: HostName, destination: HostName, *, by_gateways: bool
) -> tuple[Moved, Measurement]:
    """Move the guest, and see that all that it has is there."""
    cloud, before = lab.cloud(source.rstrip("1")).spec, sums_in_guest(lab)
    allocated = allocated_bytes(file_of(lab, cloud.name, f"{VM1}.qcow2"))
    sent = sent_bytes(cloud.netns)
    told = move(lab, VM1, source, destination, COPY, by_gateways=by_gateways)
    sent = sent_bytes(cloud.netns) - sent
    assert_files_are_read_back_as_written(lab, VM1)
    assert sums_in_guest(lab) == before
    moved = Moved(
        way="through gateways" if by_gateways else "from host to host",
        allocated_bytes=allocated,
        sent_bytes=sent,
        seconds=told.seconds,
        pause_seconds=told.downtime_seconds,
    )
    return moved, told


def blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def share_in_image(plain: Path, image: Path) -> float:
    """Return the share of a disk's blocks, but for those of zeroes, that stand in the image."""
    zero = bytes(BLOCK)
    known = {hashlib.sha256(block).digest() for block in blocks(image) if block != zero}
    found = [hashlib.sha256(block).digest() in known for block in blocks(plain) if block != zero]
    return sum(found) / len(found)


def check_from_outside(lab: Lab, cloud: str, folder: Path, own_sum: str) -> Path:
    """End the guest, and see that its file system is clean and its file what it was; return the plain disk."""
    plain, own = folder / "plain", folder / "own"
    assert_file_system_is_clean(end_with_a_clean_disk(lab, VM1, cloud), plain)
    dump = ["debugfs", "-R", f"dump /{Path(OWN).name} {own}", str(plain)]
    subprocess.run(dump, check=True, capture_output=True)
    assert hashlib.md5(own.read_bytes(), usedforsecurity=False).hexdigest() == own_sum
    return plain


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(folder: Path, asked: argparse.Namespace) -> tuple[list[Moved], dict[str, object]]:
    say("making the image")
    image = large_image(folder)
    lab = Lab(folder / "state", image=image)
    say("building the lab")
    try:
        lab.up(spec(parse_rate(asked.wan)))
        in_guest(lab, f"dd if=/dev/urandom of={OWN} bs=1M count={asked.own} && sync")
        runs, here, there = [], A1, B1
        for by_gateways in (False, True) if asked.without else (True,):
            moved, told = measured_move(lab, here, there, by_gateways=by_gateways)
            say(f"  {moved.way}: {moved.sent_bytes / 1e6:.1f} MB in {moved.seconds:.1f} s")
            runs.append(moved)
            here, there = there, here
        own_sum = in_guest(lab, f"md5sum {OWN}").split()[0]
        plain = check_from_outside(lab, here.rstrip("1"), folder, own_sum)
        share = share_in_image(plain, image)
    finally:
        lab.down()
    facts = {"share_in_image": share, "wan": asked.wan, "transfer": asdict(told.transfer)}
    return runs, facts


def show(runs: list[Moved], share_of_image: float, wan: str) -> None:
    title = f"a disk of 2 GiB, {share_of_image:.1%} of whose blocks stand in an image at the site, {wan}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("way", no_wrap=True)
    for column in ("allocated MB", "on the WAN MB", "share", "seconds", "pause s"):
        table.add_column(column, justify="right")
    for run in runs:
        pause = "–" if run.pause_seconds is None else f"{run.pause_seconds:.2f}"
        figures = (run.allocated_bytes / 1e6, run.sent_bytes / 1e6)
        table.add_row(
            run.way, *(f"{n:.1f}" for n in figures), f"{run.share:.3f}", f"{run.seconds:.1f}", pause
        )
    Console(highlight=False, markup=False, width=WIDTH).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_disks")
    parser.add_argument("--wan", default="100mbit", help="its rate")
    parser.add_argument("--own", type=int, default=160, help="MiB that only the guest has")
    parser.add_argument("--without", action="store_true", help="move it without gateways, too")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench_disks builds a lab: it takes root")
    if lab_namespaces():
        sys.exit("a lab is up, and the benchmark would remove it: transhume lab down")
    if shutil.which("debugfs") is None:
        sys.exit("bench_disks needs debugfs (Debian: e2fsprogs)")
    with tempfile.TemporaryDirectory(prefix="transhume-bench-") as folder:
        runs, facts = measure(Path(folder), asked)
    show(runs, float(str(facts["share_in_image"])), asked.wan)
    target = keep("disks", {"facts": facts, "results": [asdict(run) for run in runs]})
    print(f"written to {os.path.relpath(target)}")


if __name__ == "__main__":
    main()
