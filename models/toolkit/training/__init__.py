"""Whole nets trained with torch."""
