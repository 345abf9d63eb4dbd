"""What runs it on other machines: the compose file, the image, their configuration."""
