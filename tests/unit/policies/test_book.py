"""The policies in force while their files change."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from transhume.errors import InvalidFile
from transhume.policies.book import PolicyBook, PolicyChange


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.yaml").write_text("policy: a\nmode: auto")
    (tmp_path / "b.yaml").write_text("policy: b")
    return tmp_path


def names(book):
    return [policy.name for policy in book.policies]


def test_hidden_files_are_no_policies(folder):
    """Nor is what Emacs leaves beside a file that is being changed."""
    (folder / ".old.yaml").write_text("policy: old\nmode: recommend")
    (folder / ".#a.yaml").symlink_to("somebody@host.4711:1")
    assert names(PolicyBook([folder])) == ["a", "b"]


def test_nothing_new_is_no_change(folder):
    book = PolicyBook([folder])
    assert names(book) == ["a", "b"]
    assert book.refresh() is None


def test_policies_come_change_and_go(folder):
    book = PolicyBook([folder])
    (folder / "a.yaml").write_text("policy: a\nmode: approve")
    (folder / "b.yaml").unlink()
    (folder / "c.yaml").write_text("policy: c")
    assert book.refresh() == PolicyChange(added=("c",), changed=("a",), removed=("b",))
    assert names(book) == ["a", "c"]
    assert book.refresh() is None


def test_an_edit_that_keeps_size_and_time_is_seen(folder):
    book = PolicyBook([folder])
    file = folder / "b.yaml"
    before = file.stat()
    file.write_text("policy: x")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert book.refresh() == PolicyChange(added=("x",), removed=("b",))


def test_an_edit_without_meaning_is_no_change(folder):
    book = PolicyBook([folder])
    (folder / "b.yaml").write_text("policy: b   # the second")
    assert book.refresh() is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "b.yaml").write_text("policy: b\nmode: automatic"),
        lambda folder: (folder / "b.yaml").write_text(""),
        lambda folder: (folder / "b.yaml").write_text("policy: a"),
        lambda folder: (folder / "c.yaml").mkdir(),
        shutil.rmtree,
        lambda folder: [file.unlink() for file in folder.iterdir()],
    ],
    ids=["a mistake", "half written", "a name twice", "not a file", "folder gone", "all gone"],
)
def test_a_mistake_leaves_the_old_policies_in_force_and_is_told_once(folder, spoil):
    book = PolicyBook([folder])
    before = book.policies
    (folder / "a.yaml").write_text("policy: a\nmode: approve")
    spoil(folder)
    change = book.refresh()
    assert change is not None
    assert (change.accepted, len(change.mistakes)) == (False, 1)
    assert book.policies is before
    assert book.refresh() is None


def test_another_mistake_is_told_too(folder):
    book = PolicyBook([folder])
    (folder / "b.yaml").write_text("policy: b\nmode: x")
    first = book.refresh()
    (folder / "b.yaml").write_text("policy: b\nmood: x")
    second = book.refresh()
    assert first is not None
    assert second is not None
    assert first.mistakes != second.mistakes


def test_mending_is_told_even_where_all_is_as_before(folder):
    book = PolicyBook([folder])
    (folder / "b.yaml").write_text("policy: b\nmode: x")
    book.refresh()
    (folder / "b.yaml").write_text("policy: b")
    change = book.refresh()
    assert change == PolicyChange()
    assert change.accepted


def test_a_book_begins_with_valid_policies_only(folder):
    (folder / "b.yaml").write_text("policy: b\nmode: x")
    with pytest.raises(InvalidFile, match=r"b\.yaml:2:7"):
        PolicyBook([folder])


CONTENTS = st.sampled_from(
    ["policy: a", "policy: b", "policy: a\nmode: auto", "policy: a\nmode: x", "", "policy: [", None]
)


class BookOfChangingFiles(RuleBasedStateMachine):
    """Whatever happens to the files, the policies in force are a set that was valid as a whole."""

    @initialize()
    def begin(self):
        self.folder = Path(mkdtemp())
        (self.folder / "1.yaml").write_text("policy: first")
        self.book = PolicyBook([self.folder])
        self.in_force = self.book.policies

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(file=st.sampled_from(["1.yaml", "2.yaml"]), content=CONTENTS)
    def edit(self, file, content):
        if content is None:
            (self.folder / file).unlink(missing_ok=True)
        else:
            (self.folder / file).write_text(content)

    @rule()
    def look(self):
        self.book.refresh()
        with suppress(InvalidFile):
            self.in_force = PolicyBook([self.folder]).policies
        assert self.book.refresh() is None

    @invariant()
    def what_is_in_force_was_valid_at_the_last_look(self):
        assert self.book.policies == self.in_force


TestBookOfChangingFiles = BookOfChangingFiles.TestCase
TestBookOfChangingFiles.settings = settings(max_examples=40, stateful_step_count=12)
