"""Makes the seeds in tests/data/migration from recordings: `python -m tests.system.make_stream_seeds FOLDER`.

Whole recordings are as large as a guest's memory. What is left out are records of pages and zero pages that
continue in the block of the record before, packets of multifd's after the first few, and most of the tail of
devices; what is blanked are pages of multifd's packets after the first two. No header is written anew.
"""

import sys
from pathlib import Path
from random import Random

import zstandard

from tests.unit.execute.migration.stream.reference import Piece, pieces_of

SEEDS = Path("tests/data/migration")
KEPT_PAGES, KEPT_ZEROS, KEPT_DELTAS = 0.001, 0.02, 0.1
KEPT_PACKETS, KEPT_TAIL_BYTES = 4, 3000
WHOLE_TAIL = {"plain"}


def thinned(stream: bytes, name: str) -> bytes:
    """Leave most of a recording out."""
    pieces = pieces_of(stream)
    if pieces[-1].kind == "end":
        tail = pieces.pop()
        end = stream[tail.start :]
        end = end if name in WHOLE_TAIL else end[:KEPT_TAIL_BYTES]
    else:
        end = b""
    return b"".join([*_chosen(stream, pieces), end])


def _chosen(stream: bytes, pieces: list[Piece]) -> list[bytes]:
    random = Random(5)
    shares = {"page": KEPT_PAGES, "zero": KEPT_ZEROS, "delta": KEPT_DELTAS}
    found, packets = [], 0
    for number, piece in enumerate(pieces):
        raw = stream[piece.start : piece.end]
        if piece.kind == "packet":
            packets += 1
            if packets > KEPT_PACKETS and number < len(pieces) - 2:
                continue
            bytes_kept = 1344 + 2 * 4096
            raw = raw[:bytes_kept] + bytes(len(raw[bytes_kept:]))
        elif piece.again and random.random() > shares[piece.kind]:
            continue
        found.append(raw)
    return found


def main(folder: Path) -> None:
    """Make a seed of each recording in a folder."""
    SEEDS.mkdir(parents=True, exist_ok=True)
    squeeze = zstandard.ZstdCompressor(level=19).compress
    for path in sorted(folder.glob("*.[01]")):
        seed = thinned(path.read_bytes(), path.stem)
        (SEEDS / f"{path.name}.zst").write_bytes(squeeze(seed))
        print(path.name, len(seed), (SEEDS / f"{path.name}.zst").stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
