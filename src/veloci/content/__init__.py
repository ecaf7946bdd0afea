"""Blobs by digest, names for some of them, leases and collection; on disk an OCI image layout."""
