"""The distribution protocol: takes references and descriptors, gives byte streams.

protocol      what both ends agree on: paths, errors, ranges, links (pure)
credentials   who we are at a registry: docker's and containers' files, credential helpers
auth          challenges answered: basic, tokens
session       HTTP as registries need it: retries, redirects, limits; the only place that makes connections
client        one repository at a registry
upload        a blob sent: mounted, whole, or resumed where it stopped
server        the other end
"""
