"""Resident memory of a program with all its children, from /proc."""

from __future__ import annotations

from pathlib import Path

_KB_PER_MB = 1000.0


def resident_mb(pid: int) -> float:
    """Give VmRSS of `pid` and all that descend from it, summed; pages that they share count in each."""
    parents = _parents()
    family, grown = {pid}, True
    while grown:
        children = {child for child, parent in parents.items() if parent in family} - family
        family, grown = family | children, bool(children)
    return sum(_resident_kb(each) for each in family) / _KB_PER_MB


def _parents() -> dict[int, int]:
    """Give the parent of every process there is."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended since the folder was listed
        parents[int(place.parent.name)] = int(fields[1])
    return parents


def _resident_kb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0.0  # it has ended since
    return next((float(line.split()[1]) * 1.024 for line in lines if line.startswith("VmRSS:")), 0.0)
