"""Sandboxed processes that work on images.

*Parent*: the process of the inference stage, which owns the pool.  *Worker process*: what the
pool starts, by `Isolation` a zygote or a process that works on one image after another.
*Child*: a fork of the zygote, for one image.
"""
