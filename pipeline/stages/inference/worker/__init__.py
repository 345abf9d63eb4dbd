"""The Faust worker: one result per upload, in order."""
