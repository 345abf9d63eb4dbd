"""Events in the topics."""
