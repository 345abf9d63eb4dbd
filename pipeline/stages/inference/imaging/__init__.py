"""Decode, compose and encode images."""
