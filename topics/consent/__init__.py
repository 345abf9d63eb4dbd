"""Owners' decisions: write, read, view."""
