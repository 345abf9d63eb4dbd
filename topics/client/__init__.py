"""Client libraries of upstream services: producers and subscriptions."""
