"""A strict local server for the part of the Cloud Storage JSON API that the pipeline uses."""
