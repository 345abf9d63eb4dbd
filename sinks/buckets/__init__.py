"""Object stores and who may do what in them."""
