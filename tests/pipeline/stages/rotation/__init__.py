"""Tests of the rotation of the grants' master key."""
