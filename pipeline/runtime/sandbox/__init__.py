"""Landlock and seccomp, through ctypes."""
