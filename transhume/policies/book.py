"""The policies in force while their files change: replaced together and only when all are valid.

Polled, because a network file system tells nobody about changes. Each look reads the files, which are small:
a file's time of modification alone would miss an edit within the same tick of its clock.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from transhume.errors import InvalidFile, Mistake
from transhume.policies.known_clouds import unknown_clouds
from transhume.policies.loader import parse_policies, read_sources
from transhume.policies.model import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChange:
    """What a look at the files found: policies by name, or the mistakes for which all was left as it was."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()

    @property
    def accepted(self) -> bool:
        """True where the files as they are now are in force."""
        return not self.mistakes


class PolicyBook:
    """Holds the policies of some files and directories.

    `refresh` is to be called now and then, by one caller at a time; it blocks while it reads the files.
    """

    def __init__(self, paths: Iterable[Path], clouds: Collection[str] | None = None) -> None:
        """Read the policies; raise `InvalidFile` where there is nothing valid to begin with.

        `clouds` are those that there are: a policy that names another is doubted, and in force all the same.
        """
        self._paths = tuple(paths)
        self._clouds = clouds
        self._doubts: tuple[Mistake, ...] = ()
        self._policies: tuple[Policy, ...] = ()
        self._sources: Mapping[str, bytes] = {}
        self._seen: object = None
        self._refused = False
        first = self.refresh()
        if first is not None and first.mistakes:
            raise InvalidFile(first.mistakes)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies in force."""
        return self._policies

    @property
    def doubts(self) -> tuple[Mistake, ...]:
        """The clouds that the policies in force name, and that aren't there."""
        return self._doubts

    @property
    def sources(self) -> Mapping[str, bytes]:
        """What the files of the policies in force said when they were read, by name."""
        return self._sources

    def refresh(self) -> PolicyChange | None:
        """Look at the files again; return what came of it, or None where nothing is new.

        Files with mistakes are reported once for each state that they are in. Once they are mended, that is
        reported too, even where the policies are as they were before.
        """
        sources, unread = read_sources(self._paths)
        seen = (_digest(sources), unread)
        if seen == self._seen:
            return None
        self._seen = seen
        files, mistakes = parse_policies(sources)
        if unread or mistakes:
            self._refused = True
            return PolicyChange(mistakes=(*unread, *mistakes))
        self._doubts = tuple(
            mistake
            for found in files
            for mistake in (unknown_clouds(found.located, self._clouds) if self._clouds else ())
        )
        self._sources = sources
        return self._accept(tuple(found.policy for found in files))

    def _accept(self, policies: tuple[Policy, ...]) -> PolicyChange | None:
        change = _difference(self._policies, policies)
        mended, self._refused = self._refused, False
        self._policies = policies
        return change if mended or change != PolicyChange() else None


def _digest(sources: Mapping[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    return tuple((file, sha256(raw).digest()) for file, raw in sources.items())


def _difference(before: Iterable[Policy], after: Iterable[Policy]) -> PolicyChange:
    old = {policy.name: policy for policy in before}
    new = {policy.name: policy for policy in after}
    return PolicyChange(
        added=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(name for name in new.keys() & old.keys() if new[name] != old[name])),
        removed=tuple(sorted(old.keys() - new.keys())),
    )
