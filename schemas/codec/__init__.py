"""Wire formats: events to headers and bytes, and back."""
