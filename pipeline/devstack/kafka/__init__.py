"""A real Kafka broker: its jars, its configuration, its process."""
