"""The table of topics, and the configuration and rights derived from it."""
