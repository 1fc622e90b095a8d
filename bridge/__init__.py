"""Linegate: the bridge between a camera trigger and a PLC that drives a reject gate."""

__version__ = "0.1.0"
