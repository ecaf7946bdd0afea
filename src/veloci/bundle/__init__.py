"""Takes an image configuration and options, gives config.json. Pure.

configure.configure(image, options, id=…)   a container's configuration
configure.process(config, args, options)     what `exec` adds to it
annotations.annotated(image)                what the image says of itself, for the bundle's config.json
defaults.default()                           what `veloci-runtime spec` prints
values.*                                     docker's spelling of sizes, volumes, limits
users.resolve, hostfiles.hosts, .resolv      files of the root file system, read and written as bytes
"""
