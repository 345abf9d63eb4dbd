"""The consent join: by the freshest consent, exactly once."""
