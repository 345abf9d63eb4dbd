"""Images from URLs: fetched in a process of their own, which has nothing of the gateway."""
