"""WHERE it flows.  The only package that imports confluent-kafka."""
