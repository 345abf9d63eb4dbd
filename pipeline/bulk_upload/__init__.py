"""Upload the rows of a manifest, each exactly once across restarts."""
