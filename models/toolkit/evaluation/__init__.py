"""Bundles judged, explained and tuned on labelled pictures."""
