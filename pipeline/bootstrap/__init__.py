"""The composition root: one module per role turns settings into running parts.

Each function checks that its role may do what it must and that everything it needs exists, and
raises `Refused` with a sentence if not.  It closes the parts that it opened in reverse order, also
when a later step fails.  Only `cli`, `devstack` and `demo` import this package.
"""
