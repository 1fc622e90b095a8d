"""Models made of good parts only; no torch."""
