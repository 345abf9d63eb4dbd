"""The purger: delete records as soon as nothing needs them."""
