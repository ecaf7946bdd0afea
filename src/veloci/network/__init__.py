"""Namespaces, links, addresses, published ports: takes a lease, gives a connected container."""
