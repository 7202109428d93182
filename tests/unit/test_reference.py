"""The reference pages say what the code says: schemas, commands, errors."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from transhume.errors import Error, PermanentError, TemporaryError
from transhume.knowledge.codec import UnreadableRecord

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
ROW = re.compile(r"\| `(TRANSHUME-E\d{3})` \| `(\w+)` \| (\d+) \| (temporary: )?[^|]+ \| [^|]+ \|")


def leaves(error: type[Error]) -> Iterator[type[Error]]:
    subclasses = error.__subclasses__()
    if not subclasses:
        yield error
    for subclass in subclasses:
        yield from leaves(subclass)


def test_what_is_generated_is_as_the_code_has_it() -> None:
    """In a process of its own: a click command keeps the help option of whoever asked it first."""
    checking = [sys.executable, str(REFERENCE / "renew.py"), "--check"]
    told = subprocess.run(checking, capture_output=True, check=False, text=True)
    assert (told.returncode, told.stdout) == (0, ""), f"run: make docs\n{told.stderr}"


def test_each_error_has_a_code_of_its_own() -> None:
    found = [Error, *leaves(Error)]
    assert UnreadableRecord in found
    assert all("code" in vars(error) for error in found)
    assert len({error.code for error in found}) == len(found)


def test_the_page_of_errors_has_each_with_its_code_and_exit_status() -> None:
    """In the order of their codes, and each marked as temporary that is."""
    rows = ROW.findall((REFERENCE / "errors.md").read_text("utf-8"))
    expected = [
        (
            error.code,
            error.__name__,
            str(error.exit_status),
            "temporary: " if issubclass(error, TemporaryError) else "",
        )
        for error in sorted((Error, *leaves(Error)), key=lambda error: error.code)
    ]
    assert rows == expected


def test_an_exit_status_tells_what_may_pass_by_itself() -> None:
    for error in leaves(Error):
        assert issubclass(error, TemporaryError) is not issubclass(error, PermanentError)
        assert (error.exit_status == 75) is issubclass(error, TemporaryError)
