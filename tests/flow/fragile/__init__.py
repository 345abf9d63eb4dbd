"""Tests that kill, stop and cut off parts of a pipeline."""
