"""Run each image in a sandboxed process of its own."""
