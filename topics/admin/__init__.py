"""What operators do to a cluster: provision, purge, recover."""
