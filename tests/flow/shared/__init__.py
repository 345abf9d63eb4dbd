"""Tests of a pipeline that runs."""
