"""Fetch, build, judge and install models."""
