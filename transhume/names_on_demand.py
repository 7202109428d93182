"""Packages whose names are imported when they are first used (PEP 562).

Most of the time that a short command takes goes into imports: whoever adds up a capture needs no policies.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def names_on_demand(
    package: str, modules: Mapping[str, tuple[str, ...]]
) -> Callable[[str], object]:
    """Return a package's `__getattr__`.

    Args:
        package: its name.
        modules: which names come from each of its modules.
    """
    home = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
