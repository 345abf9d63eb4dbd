"""The topics, against a real broker."""
