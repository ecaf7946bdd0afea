"""One small process a container. Takes a bundle, a root file system and a lease; gives stdio, a log, an exit record."""
