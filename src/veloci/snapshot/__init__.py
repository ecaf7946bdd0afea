"""Layers to a mounted root file system, by drivers with one contract."""
