"""Adapters: each has the routes and the shape of errors of one contract."""
