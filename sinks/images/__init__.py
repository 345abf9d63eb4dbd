"""Seal, store and read retained images."""
