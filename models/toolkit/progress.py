"""Who hears how far a long work is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Hears how much of one step is done, of how much."""
Stage = Callable[[str, int, int], None]
"""Hears the name of the step, how much of it is done, of how much."""
Say = Callable[[str], None]
"""Hears a line of text."""
