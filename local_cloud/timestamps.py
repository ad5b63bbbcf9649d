"""Moments as AWS writes them into events, messages and logs: seconds since 1970 in, text in UTC out."""

from datetime import UTC, datetime


def utc_text(at_s: float) -> str:
    """`2026-11-22T10:00:00.000Z` for seconds since 1970."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
