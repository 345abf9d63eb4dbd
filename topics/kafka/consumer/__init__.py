"""Readers of topics: views, fetchers, work queues."""
