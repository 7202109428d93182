"""Clouds that a policy names and that aren't there: a misspelt one forbids nothing, and pins VMs to nowhere.

Which clouds there are is told by whoever has a deployment; a policy file by itself can't know.
"""

from collections.abc import Collection, Iterator
from difflib import get_close_matches

from transhume.errors import Mistake
from transhume.located_yaml import KeyPath, Located


def unknown_clouds(located: Located, clouds: Collection[str]) -> Iterator[Mistake]:
    """Yield a mistake for each cloud that is named in a policy and isn't one of these."""
    for path in _named(located):
        name = located.get(path)
        if isinstance(name, str) and name not in clouds:
            yield located.mistake(path, f"there is no cloud {name}; {_remedy(name, clouds)}")


def _named(located: Located) -> Iterator[KeyPath]:
    """Yield the path of each name of a cloud in a policy."""
    for number, entry in enumerate(located.entries("rules")):
        for kind in entry if isinstance(entry, dict) else ():
            rule: KeyPath = ("rules", number, kind)
            if "cloud" in located.mapping(*rule):
                yield (*rule, "cloud")
            for place, _ in enumerate(located.entries(*rule, "clouds")):
                yield (*rule, "clouds", place)
    for place, _ in enumerate(located.entries("availability", "prefer")):
        yield ("availability", "prefer", place)


def _remedy(name: str, clouds: Collection[str]) -> str:
    near = get_close_matches(name, clouds, n=1)
    known = f"known here: {', '.join(sorted(clouds)) or 'none'}"
    return f"did you mean {near[0]}? ({known})" if near else known
