"""The client of the key service, and the answers that both sides exchange."""
