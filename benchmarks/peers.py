"""Tools that others read captures with: how each is called, and how many bytes it says there are.

A peer that isn't installed takes no part, and its row says so. The Debian ones come with
`apt-get install --no-install-recommends tshark tcpdump nfdump softflowd`. NFStream wants an environment of its
own: `python3 -m venv build/bench/venv && build/bench/venv/bin/pip install nfstream`.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.captures import Capture, Truth
from benchmarks.measuring import ENVIRONMENT, RESULTS, Contender

HERE = Path(__file__).parent
NFSTREAM_PYTHON = RESULTS / "venv" / "bin" / "python"
DEEP_FRAMES, FLOW_FRAMES = 200_000, 1_000_000
"""What takes seconds of start-up reads more, so that these don't count."""
UNITS = {"bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A tool: its command for a file and a folder to write to, and what it tells."""

    name: str
    needs: tuple[str, ...]
    """Programs, by name on PATH or by path."""
    command: Callable[[str, str], str]
    """A line for a shell, of the file and a folder, both quoted."""
    told: Callable[[str], int] | None = None
    """The bytes it tells, from what it says."""
    true: Callable[[Truth], int] | None = None
    """The bytes that it should tell, given what it counts."""
    slice_frames: int | None = None
    """It reads so many frames, because all would take minutes, and is measured less often."""

    @property
    def installed(self) -> bool:
        """Whether all it needs is there."""
        return all(shutil.which(program) for program in self.needs)

    def contender(self, capture: Capture, folder: Path) -> Contender:
        """Return the command to measure, with the share of the true bytes that it tells."""
        line = self.command(shlex.quote(str(capture.path)), shlex.quote(str(folder)))
        command = ("sh", "-c", line)
        return Contender(
            name=self.name,
            command=command if self.installed else None,
            frames=capture.recipe.frames,
            share=self._share(command, capture.truth) if self.installed else None,
            most_runs=3 if self.slice_frames else None,
        )

    def _share(self, command: tuple[str, ...], truth: Truth) -> float | None:
        if self.told is None or self.true is None:
            return None
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
        return self.told(said.stdout) / self.true(truth)


def _last_number(said: str) -> int:
    return int(said.rsplit(maxsplit=1)[-1])


def _tshark_bytes(said: str) -> int:
    """Add up the conversations' totals, which tshark rounds."""
    totals = re.findall(r"<->\s+\S+\s+\d+\s+\d+ \S+\s+\d+\s+\d+ \S+\s+\d+\s+(\d+) (\S+)", said)
    return sum(int(count) * UNITS[unit] for count, unit in totals)


def _nfdump_bytes(said: str) -> int:
    rows = [line.split(",") for line in said.splitlines() if line.startswith("2")]
    return sum(int(row[12]) + int(row[14]) for row in rows)


def _softflowd_bytes(said: str) -> int:
    return sum(int(octets) for octets in re.findall(r"^ *\w+ \(\d+\): +(\d+)", said, re.MULTILINE))


COUNTING = Peer(
    name="tcpdump -r FILE --count",
    needs=("tcpdump",),
    command=lambda file, _: f"tcpdump -n -r {file} --count",
)
READING = Peer(name="cat FILE", needs=("cat",), command=lambda file, _: f"cat {file} > /dev/null")
NFDUMP = Peer(
    name="nfpcapd, then nfdump -A srcip,dstip",
    needs=("nfpcapd", "nfdump"),
    command=lambda file, folder: (
        f"rm -rf {folder}/flows && mkdir {folder}/flows"
        f" && nfpcapd -r {file} -w {folder}/flows -t 300 > /dev/null 2>&1"
        f" && nfdump -R {folder}/flows -A srcip,dstip -o csv -q -n 0"
    ),
    told=_nfdump_bytes,
    true=lambda truth: truth.ip_bytes,
)
SOFTFLOWD = Peer(
    name="softflowd -r FILE",
    needs=("softflowd",),
    command=lambda file, folder: (
        f"softflowd -r {file} -n 127.0.0.1:9995 -v 9 -d -m 65536 -p {folder}/pid -c none"
    ),
    told=_softflowd_bytes,
    true=lambda truth: truth.ip_bytes,
)
TSHARK = Peer(
    name="tshark -q -z conv,ip",
    needs=("tshark",),
    command=lambda file, _: f"tshark -n -r {file} -q -z conv,ip",
    told=_tshark_bytes,
    true=lambda truth: truth.ipv4_frame_bytes,
    slice_frames=DEEP_FRAMES,
)
TSHARK_SHALLOW = Peer(
    name="tshark, TCP and UDP left alone",
    needs=("tshark",),
    command=lambda file, _: (
        f"tshark -n -r {file} --disable-protocol tcp --disable-protocol udp -q -z conv,ip"
    ),
    told=_tshark_bytes,
    true=lambda truth: truth.ipv4_frame_bytes,
    slice_frames=DEEP_FRAMES,
)
NFSTREAM = Peer(
    name="NFStream, without dissection",
    needs=(str(NFSTREAM_PYTHON),),
    command=lambda file, _: f"{NFSTREAM_PYTHON} {HERE / 'nfstream_pairs.py'} {file}",
    told=_last_number,
    true=lambda truth: truth.ip_frame_bytes,
    slice_frames=FLOW_FRAMES,
)
DPKT = Peer(
    name="dpkt, a loop",
    needs=(sys.executable,),
    command=lambda file, _: f"{sys.executable} {HERE / 'dpkt_pairs.py'} {file}",
    told=_last_number,
    true=lambda truth: truth.ip_frame_bytes,
    slice_frames=DEEP_FRAMES,
)
FAST = (READING, COUNTING, NFDUMP, SOFTFLOWD)
SLOW = (NFSTREAM, TSHARK_SHALLOW, TSHARK, DPKT)


def missing() -> tuple[str, ...]:
    """Return the names of the peers that aren't installed."""
    return tuple(peer.name for peer in (*FAST, *SLOW) if not peer.installed)
