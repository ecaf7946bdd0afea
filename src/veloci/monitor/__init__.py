"""One small process a container: stdio, log, terminal, exit status."""
