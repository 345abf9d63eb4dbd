"""Clients in other languages: the programs of `docs/clients`, and the packages that they need."""
