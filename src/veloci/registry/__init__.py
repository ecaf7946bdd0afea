"""The distribution protocol: takes references and descriptors, gives byte streams."""
