"""A real Kafka broker: jars, configuration, process."""
