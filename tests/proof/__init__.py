"""The proof that copies of every disk are worthless once the keys of an hour are dead."""
