"""Tests of the deployment to other machines: compose file, image, configuration."""
