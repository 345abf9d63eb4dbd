"""The composition root: one module per role turns settings into running parts."""
