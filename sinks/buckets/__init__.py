"""Object stores and their access policy."""
