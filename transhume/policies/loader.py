"""Policy files in, policies out; or every mistake of every file, with its place.

Touches the world only to read files. What a policy may say is in `schema`; keeping a set of policies in force
while their files change is `book`'s business.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from transhume.errors import InvalidFile, Mistake
from transhume.located_yaml import Located, decode, read, read_bytes, validate
from transhume.policies.contradictions import contradictions
from transhume.policies.conversion import to_policy, to_rule
from transhume.policies.extension import PlannerRule, RuleFailed, make_rule
from transhume.policies.model import Policy, Rule
from transhume.policies.schema import PolicySchema, RuleSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """A policy with the file that it was read from."""

    policy: Policy
    located: Located

    def warnings(self, now: datetime) -> tuple[Mistake, ...]:
        """Return what is allowed, but hardly what its writer wants."""
        deadline = self.policy.deadline
        if deadline is None or deadline.at > now:
            return ()
        message = (
            f"deadline.at is in the past ({deadline.at:%Y-%m-%dT%H:%MZ}); until the job has told that it is "
            "done, moves hold it up, and hardly any is made for money: remove the deadline once it's over"
        )
        return (self.located.mistake(("deadline", "at"), message),)


def load_policy(path: Path) -> Policy:
    """Return the policy in a file.

    Raises:
        InvalidFile: with every mistake in the file.
    """
    return parse_policy(read_bytes(path), str(path)).policy


def load_policies(paths: Iterable[Path]) -> tuple[Policy, ...]:
    """Return the policies in files and in the `*.yaml` of directories, in that order.

    Raises:
        InvalidFile: with every mistake in all files; a name that two policies have is one.
    """
    files, mistakes = check_policies(paths)
    if mistakes:
        raise InvalidFile(mistakes)
    return tuple(found.policy for found in files)


def check_policies(paths: Iterable[Path]) -> tuple[tuple[PolicyFile, ...], tuple[Mistake, ...]]:
    """Return what is valid among files and directories, and every mistake in what isn't."""
    sources, unread = read_sources(paths)
    files, mistakes = parse_policies(sources)
    return files, (*unread, *mistakes)


def read_sources(paths: Iterable[Path]) -> tuple[dict[str, bytes], tuple[Mistake, ...]]:
    """Return the bytes of all policy files by name, and a mistake for each that can't be read."""
    sources: dict[str, bytes] = {}
    mistakes: list[Mistake] = []
    for path in paths:
        try:
            sources |= {str(file): read_bytes(file) for file in _files(path)}
        except InvalidFile as error:
            mistakes += error.mistakes
    return sources, tuple(mistakes)


def parse_policy(raw: bytes, file: str) -> PolicyFile:
    """Return the policy that a file's bytes say.

    Raises:
        InvalidFile: with every mistake in the file.
    """
    located = read(decode(raw, file), file)
    made: dict[int, PlannerRule] = {}
    written = validate(PolicySchema, located, _contradictions, partial(_make_rules, made))
    return PolicyFile(policy=to_policy(written, file, made), located=located)


def parse_policies(
    sources: Mapping[str, bytes],
) -> tuple[tuple[PolicyFile, ...], tuple[Mistake, ...]]:
    """Return the valid policies of several files, and every mistake; a name twice is one."""
    found: list[PolicyFile] = []
    mistakes: list[Mistake] = []
    for file, raw in sources.items():
        try:
            found.append(parse_policy(raw, file))
        except InvalidFile as error:
            mistakes += error.mistakes
    return tuple(found), (*mistakes, *_same_names(found))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # As in a shell, hidden ones aren't meant: what editors leave, or somebody has put aside.
    found = sorted(each for each in path.glob("*.yaml") if not each.name.startswith("."))
    if not found:
        raise InvalidFile((Mistake(str(path), 1, 1, "no *.yaml here; put a policy into it"),))
    return found


def _same_names(files: Iterable[PolicyFile]) -> Iterator[Mistake]:
    first: dict[str, str] = {}
    for found in files:
        name, file = found.policy.name, found.located.file
        if name in first:
            message = f"{first[name]} holds a policy {name} too; give one of them another name"
            yield found.located.mistake(("policy",), message)
        first.setdefault(name, file)


def _contradictions(located: Located) -> Iterator[Mistake]:
    """Look at those rules that are sound, whatever else is wrong in the file."""
    sound = dict(_sound_rules(located))
    places = list(sound)
    for i, j, clash in contradictions(list(sound.values())):
        line = located.value_at(("rules", places[i])).line
        message = f"rules[{places[j]}] contradicts the rule in line {line}: {clash}; remove one"
        yield located.mistake(("rules", places[j]), message)


def _sound_rules(located: Located) -> Iterator[tuple[int, Rule]]:
    for place, written in enumerate(located.entries("rules")):
        try:
            rule = RuleSchema.model_validate(written)
        except ValidationError:
            continue
        if rule.model_dump(exclude_none=True):  # a key without a value is a mistake of its own
            yield place, to_rule(rule)


def _make_rules(made: dict[int, PlannerRule], located: Located) -> Iterator[Mistake]:
    """Make the rules in Python that a file names, by place; yield a mistake for each that can't be made."""
    for place, _ in enumerate(located.entries("rules")):
        written = located.mapping("rules", place, "python")
        name = written.get("name")
        if not isinstance(name, str):
            continue
        try:
            made[place] = make_rule(name, {key: written[key] for key in written if key != "name"})
        except RuleFailed as error:
            yield located.mistake(
                ("rules", place, "python", "name"), f"rules[{place}].python: {error}"
            )
