import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from transhume.execute.migration.content.catalogue import ImageChanged, index_image
from transhume.execute.migration.splitting import PAGE_BYTES


def image_of(path: Path, blocks: list[bytes]) -> Path:
    path.write_bytes(b"".join(blocks))
    return path


def test_each_block_is_listed_once_and_empty_ones_are_not(tmp_path: Path) -> None:
    one, two = os.urandom(PAGE_BYTES), os.urandom(PAGE_BYTES)
    found = index_image(image_of(tmp_path / "i", [one, bytes(PAGE_BYTES), two, one, b"tail"]))
    assert found.digests == (sha256(one).digest(), sha256(two).digest())
    assert b"".join(found.read(np.array([1, 0]))) == two + one


def test_the_same_image_has_the_same_name_elsewhere(tmp_path: Path) -> None:
    blocks = [os.urandom(PAGE_BYTES) for _ in range(3)]
    one = index_image(image_of(tmp_path / "one", blocks))
    other = index_image(image_of(tmp_path / "other", blocks))
    assert one.name == other.name
    assert one.name != index_image(image_of(tmp_path / "less", blocks[:2])).name


def test_holes_of_a_sparse_image_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as image:
        image.truncate(1 << 30)
        image.seek(512 << 20)
        image.write(b"x" * 5000)
    found = index_image(path)
    assert len(found.digests) == 2
    assert found.offsets[0] == 512 << 20


def test_an_image_that_was_changed_is_found_out(tmp_path: Path) -> None:
    path = image_of(tmp_path / "i", [os.urandom(PAGE_BYTES) for _ in range(3)])
    found = index_image(path)
    with path.open("r+b") as image:
        image.seek(PAGE_BYTES)
        image.write(b"changed")
    assert len(found.read(np.array([0, 2]))) == 2
    with pytest.raises(ImageChanged):
        found.read(np.array([1]))


def test_an_image_that_shrank_is_found_out(tmp_path: Path) -> None:
    path = image_of(tmp_path / "i", [os.urandom(PAGE_BYTES) for _ in range(3)])
    found = index_image(path)
    os.truncate(path, 2 * PAGE_BYTES)
    with pytest.raises(ImageChanged):
        found.read(np.array([2]))
