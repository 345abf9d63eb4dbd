"""The account page: the opt-in at its top, and below it all that the owner may see and end."""
