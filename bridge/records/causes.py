"""What a database says of a failure, in one line."""

from __future__ import annotations

from sqlalchemy.exc import DatabaseError


def cause_of(exc: Exception) -> str:
    """Give the driver's own words, without the statement and its values that SQLAlchemy adds."""
    return " ".join(str(exc.orig if isinstance(exc, DatabaseError) and exc.orig else exc).split())
