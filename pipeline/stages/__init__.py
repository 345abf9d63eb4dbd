"""The stages, one folder each.  None imports another."""
