"""`veloci-runtime`: runC's command line over veloci's own runtime. A command imports what it uses and no more."""
