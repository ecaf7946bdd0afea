"""The OCI runtime: takes a bundle, gives a container."""
