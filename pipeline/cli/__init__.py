"""The commands, a module per subject.

What a command needs beyond the extra `cli` is imported when it runs, so that each works with
the extras that it needs and no others.
"""
