"""A production line to try Linegate on: conveyor, PLC, broker, and the demo that runs them beside a bridge.

Nothing here imports `bridge`: the two meet on the wire alone, as a real line and a real bridge would.
"""
