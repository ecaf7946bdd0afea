"""Takes an image configuration and options, gives config.json. Pure."""
