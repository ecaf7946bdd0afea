"""The embedded registry: an ASGI application over a storage driver.

storage       repositories, blobs, tags, uploads as files
manifests     what a manifest must be to be taken (pure)
application   requests to storage calls, by one table
serve         a socket, uvicorn, signals
"""
