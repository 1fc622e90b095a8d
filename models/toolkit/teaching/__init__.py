"""Models taught on frozen features by labelled pictures, with or without masks; no torch."""
