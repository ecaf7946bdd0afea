"""Takes a Dockerfile and a context, gives an image."""
