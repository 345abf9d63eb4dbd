"""The commands, one module per subject.

A command imports its dependencies beyond the extra `cli` when it runs, so that it works with
only the extras that it needs.
"""
