"""Bundles: written whole or not at all, and what several kinds of them share."""
