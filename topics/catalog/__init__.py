"""Every topic in one table, and what is derived from it."""
