"""Documents and prose, compared with the project."""
