"""Owners' consent decisions: written, read and viewed."""
