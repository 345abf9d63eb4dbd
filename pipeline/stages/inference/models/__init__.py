"""Describe, store and run segmentation models."""
