"""WHAT flows.  Pure: pydantic and the standard library; no I/O, no clock, no logging."""
