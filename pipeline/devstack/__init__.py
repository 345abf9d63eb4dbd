"""The embedded stack: certificates, real brokers and a strict bucket on one machine."""
