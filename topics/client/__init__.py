"""What upstream services use: producers and subscriptions."""
