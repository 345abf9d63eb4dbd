"""The exactly-once loop and its parts."""
