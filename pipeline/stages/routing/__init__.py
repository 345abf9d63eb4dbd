"""The consent join: route every result by the freshest consent, exactly once."""
