"""The demo, its checks and its report."""
