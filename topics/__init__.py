"""Kafka topics: catalog, clients, consent and administration.

The only package that imports confluent-kafka.
"""
