"""Linux as Python functions: the only ctypes in the tree. Takes descriptors and paths, raises OSError."""
