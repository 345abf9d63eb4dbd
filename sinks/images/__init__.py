"""Sealing, storing and reading of retained images."""
