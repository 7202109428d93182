"""Patterns: which shape the traffic among some VMs has, wherever its ranks were placed."""

from transhume.analyze.patterns.recognition import find_pattern, find_patterns

__all__ = ["find_pattern", "find_patterns"]
