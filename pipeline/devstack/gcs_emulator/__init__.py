"""A strict local server of the part of the Cloud Storage JSON API that the pipeline uses."""
