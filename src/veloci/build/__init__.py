"""Takes a Dockerfile and a context, gives an image.

    Dockerfile ─ parse ─▶ instructions ─ graph ─▶ stages ─ execute ─▶ layers + configuration
                                                               │
                              context, ignore ── digests ──▶ cache ── hit: the layer's blob, no file touched
                                                               └──── miss: run, copy on a writable snapshot

parse, words, instructions, expand, ignore, graph and config are pure.
"""
