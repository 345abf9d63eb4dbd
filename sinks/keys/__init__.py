"""Keys of grants, and the keyring that wraps them."""
