"""Blobs by digest, names for some of them, leases and collection; on disk an OCI image layout.

    oci-layout, index.json     what other tools read; index.json follows refs/
    blobs/<algorithm>/<hex>    whole, verified content, and nothing else
    refs/<repository>/:<tag>   one descriptor a name; this is the database
    ingest/                    what is being written, each file locked (flock) by its writer
    leases/                    what running commands need, each file locked by its command

Locks are taken in this order, and a later one is never held while an earlier one is waited for:

    1. ingest/<algorithm>-<hex>   one writer a blob; the others wait, and find it whole
    2. index.lock                 one writer of refs/ and index.json
    3. leases/lock                shared to note a need, exclusive to delete blobs

index.stale is there while index.json is behind refs/; who finds it after a kill writes the index anew. A collection
removes from ingest/ what nobody has locked, but lets an interrupted download wait a day to be resumed.

What is read needs no lock: files appear whole, by rename.
"""
