"""Administration of a cluster: provisioning, early purge, recovery of the router."""
