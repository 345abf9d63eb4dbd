"""The whole pipeline against the real broker and the real bucket."""
