"""Reading a capture offline: from the file to who talks to whom, as whole commands.

The peers do less: `tshark -z conv,ip` adds up bytes by pair of addresses, as we do, but finds no groups;
`tcpdump --count` reads each record and looks at none, which is the floor for whoever goes through libpcap.
The capture is made here, always the same: groups of machines that talk mostly among themselves, full and short
datagrams, kept to 64 bytes as `tcpdump -s 64` keeps them.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import ENVIRONMENT, Contender, measure, report

FRAMES = 400_000
MACHINES, GROUPS = 24, 4
SECONDS = 60
KEPT_BYTES = 64
FULL, SHORT = 1514, 66
ROUNDS = 3
OURS = "transhume analyze FILE --json"
COUNTING = "tcpdump -r FILE --count"

RECORD = np.dtype(
    [
        ("seconds", "<u4"),
        ("microseconds", "<u4"),
        ("kept", "<u4"),
        ("length", "<u4"),
        ("destination_mac", "u1", 6),
        ("source_mac", "u1", 6),
        ("ethertype", ">u2"),
        ("version_and_size", "u1"),
        ("service", "u1"),
        ("ip_length", ">u2"),
        ("identification", ">u4"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("source_ip", "u1", 4),
        ("destination_ip", "u1", 4),
        ("source_port", ">u2"),
        ("destination_port", ">u2"),
        ("datagram_length", ">u2"),
        ("rest", "u1", KEPT_BYTES - 40),
    ]
)
HEADER = np.array(
    [(0xA1B2C3D4, 2, 4, 0, 0, KEPT_BYTES, 1)],
    dtype="<u4, <u2, <u2, <i4, <u4, <u4, <u4",
)


def capture(frames: int) -> NDArray[np.void]:
    """Return the records of a capture: each machine talks to its own group nine times out of ten."""
    chance = np.random.default_rng(1)
    source = chance.integers(MACHINES, size=frames)
    stride = chance.integers(1, MACHINES // GROUPS, size=frames) * GROUPS
    elsewhere = chance.random(frames) < 0.1
    stride[elsewhere] = chance.integers(1, MACHINES, size=frames)[elsewhere]
    destination = (source + stride) % MACHINES
    instant = np.sort(chance.integers(SECONDS * 1_000_000, size=frames))
    length = np.where(chance.random(frames) < 0.6, FULL, SHORT)
    found = np.zeros(frames, dtype=RECORD)
    found["seconds"] = 1_893_456_000 + instant // 1_000_000
    found["microseconds"] = instant % 1_000_000
    found["kept"], found["length"] = KEPT_BYTES, length
    for end, machine in (("source", source), ("destination", destination)):
        found[f"{end}_mac"][:, :2] = (0x52, 0x54)
        found[f"{end}_mac"][:, 5] = machine + 1
        found[f"{end}_ip"][:, 0] = 10
        found[f"{end}_ip"][:, 3] = machine + 1
    found["ethertype"], found["version_and_size"] = 0x0800, 0x45
    found["ip_length"], found["ttl"], found["protocol"] = length - 14, 64, 17
    found["datagram_length"] = length - 34
    found["source_port"], found["destination_port"] = 40_000 + source, 5201
    return found


def contenders(path: Path) -> tuple[Contender, ...]:
    """Return the commands; a peer that isn't on PATH takes no part."""
    ours = (str(Path(sys.executable).with_name("transhume")), "analyze", str(path), "--json")
    tshark = ("tshark", "-n", "-r", str(path), "-q", "-z", "conv,ip")
    tcpdump = ("tcpdump", "-n", "-r", str(path), "--count")
    return (
        Contender(name=OURS, command=ours),
        Contender(
            name="tshark -r FILE -q -z conv,ip", command=tshark if shutil.which("tshark") else None
        ),
        Contender(name=COUNTING, command=tcpdump if shutil.which("tcpdump") else None),
    )


def check(path: Path, records: NDArray[np.void]) -> None:
    """See that all read the whole file, and that no frame and no byte is missing from our matrix."""
    told = {
        each.name: subprocess.run(each.command, check=True, capture_output=True, env=ENVIRONMENT)
        for each in contenders(path)
        if each.command is not None
    }
    if COUNTING in told:
        assert told[COUNTING].stdout.split()[:1] == [b"%d" % len(records)]
    found = json.loads(told[OURS].stdout)
    assert found["files"][0]["frames"] == len(records)
    assert sum(map(sum, found["bytes"])) == int(records["length"].sum())
    assert len(found["groups"]) == GROUPS


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="transhume-bench-") as folder:
        path = Path(folder) / "capture.pcap"
        records = capture(FRAMES)
        path.write_bytes(HEADER.tobytes() + records.tobytes())
        check(path, records)
        results = measure(contenders(path), rounds=ROUNDS)
        facts = {
            "frames": FRAMES,
            "machines": MACHINES,
            "file_bytes": path.stat().st_size,
            "frames_per_cpu_second": round(FRAMES / results[0].cpu),
        }
    title = f"Reading a capture of {FRAMES:,} frames, {facts['file_bytes'] / 1e6:.0f} MB"
    report("capture", title, results, reference=COUNTING, facts=facts)


if __name__ == "__main__":
    main()
