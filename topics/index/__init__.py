"""The index of a gateway's images: where each result is, without any image."""
