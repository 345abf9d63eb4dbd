"""Sealing of pictures: pure cryptography on bytes."""
