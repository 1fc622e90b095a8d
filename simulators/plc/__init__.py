"""The simulated PLC: a scan cycle as a pure function, and the clients of its two fieldbuses around it."""
