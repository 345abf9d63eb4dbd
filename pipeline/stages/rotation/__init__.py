"""The rotation of the grants' master key."""
