"""Faults: `make faults`."""
