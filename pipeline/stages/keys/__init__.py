"""The key service: gives out the keys of epochs, and destroys them."""
