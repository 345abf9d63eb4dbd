"""Tests of the inference stage: images, models, processes."""
