"""The data that flows.  Pure: pydantic and the standard library; no I/O, clock or logging."""
