"""API keys of a lane: issued, revoked, and found by what a caller presents."""
