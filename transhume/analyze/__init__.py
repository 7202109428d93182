"""Analyze: pure functions from windows and reports to matrices, groups, cuts and symptoms.

Each name's module is imported when the name is first used: who adds up a capture needs no policies, and most of
the time that a small capture takes is importing.
"""

from typing import TYPE_CHECKING, Final

from transhume.names_on_demand import names_on_demand

if TYPE_CHECKING:
    from transhume.analyze.accounts import Accounts, Unattributed
    from transhume.analyze.comparison import ChangedCompany, Comparison, compare
    from transhume.analyze.cut import find_cut
    from transhume.analyze.forecasting import forecast
    from transhume.analyze.groups import find_groups
    from transhume.analyze.guess import vms_from_sightings, vms_from_windows
    from transhume.analyze.matrix import build_matrix, build_series
    from transhume.analyze.networks import NO_NETWORKS, Networks
    from transhume.analyze.patterns import find_pattern, find_patterns
    from transhume.analyze.phases import find_phases
    from transhume.analyze.sightings import Sightings, sightings_of
    from transhume.analyze.symptoms import SymptomMemory, find_symptoms, watch
    from transhume.analyze.views import exponential_view, sliding_view

_MODULES: Final = {
    "accounts": ("Accounts", "Unattributed"),
    "comparison": ("ChangedCompany", "Comparison", "compare"),
    "cut": ("find_cut",),
    "forecasting": ("forecast",),
    "groups": ("find_groups",),
    "guess": ("vms_from_sightings", "vms_from_windows"),
    "matrix": ("build_matrix", "build_series"),
    "networks": ("NO_NETWORKS", "Networks"),
    "patterns": ("find_pattern", "find_patterns"),
    "phases": ("find_phases",),
    "sightings": ("Sightings", "sightings_of"),
    "symptoms": ("SymptomMemory", "find_symptoms", "watch"),
    "views": ("exponential_view", "sliding_view"),
}

__all__ = [
    "NO_NETWORKS",
    "Accounts",
    "ChangedCompany",
    "Comparison",
    "Networks",
    "Sightings",
    "SymptomMemory",
    "Unattributed",
    "build_matrix",
    "build_series",
    "compare",
    "exponential_view",
    "find_cut",
    "find_groups",
    "find_pattern",
    "find_patterns",
    "find_phases",
    "find_symptoms",
    "forecast",
    "sightings_of",
    "sliding_view",
    "vms_from_sightings",
    "vms_from_windows",
    "watch",
]

__getattr__ = names_on_demand(__name__, _MODULES)
