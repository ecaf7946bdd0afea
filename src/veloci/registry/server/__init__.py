"""The embedded registry: an ASGI application over a storage driver."""
