"""The embedded stack: certificates, a real broker and a strict bucket on one machine."""
