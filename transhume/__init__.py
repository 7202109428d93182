"""Transhume: moves herds of virtual machines between clouds, and keeps each herd together."""

__version__ = "0.1.0"
