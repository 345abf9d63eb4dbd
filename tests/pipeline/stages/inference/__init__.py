"""Tests of the inference stage: images, model, pool."""
