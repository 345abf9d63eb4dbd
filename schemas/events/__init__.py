"""The events that flow through the topics."""
