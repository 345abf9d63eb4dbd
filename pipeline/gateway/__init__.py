"""HTTPS for customers without a Kafka client: a lane like any other."""
