"""The distribution protocol: takes references and descriptors, gives byte streams.

protocol       what both ends agree on: paths, errors, ranges, links, warnings (pure)
configuration  where images really are: registries.conf, daemon.json; endpoints of a repository, short names
credentials    who we are at a registry: docker's and containers' files; helpers: the programs that keep them
auth           challenges answered: basic, tokens
certificates   whom TLS trusts, what it shows: certs.d
proxies        by which way
inner          which addresses nobody out there may send us to
tls            encryption, also within the encryption to a proxy
wire           HTTP/1.1 over one connection; drips noticed; failures: what may become of it
connections    connections, made as those before say, and kept to serve again
session        HTTP as registries need it: retries, redirects, limits; everything goes through here
answers        what an answer or a failed connection is: a document, or one of our errors
access         a repository at one endpoint
client         a repository: its mirrors first, then the registry itself
manifests      what a manifest must be; listing: lists in pages; referrers: what refers to a manifest
download       a blob read, on from where it was cut
upload         a blob sent: mounted, whole, in parts, on from where it stopped; unfinished: remembers uploads
server         the other end
"""
