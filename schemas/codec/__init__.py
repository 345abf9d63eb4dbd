"""Wire formats: encode events as headers and bytes, and decode them."""
