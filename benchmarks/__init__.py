"""How fast the bridge is beside the most direct script that does the same: `python -P -m benchmarks.run`."""
