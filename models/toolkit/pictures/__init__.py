"""Labelled pictures: read, checked, and made into what a model takes."""
