"""Layers to a mounted root file system.

    layers/<chain ID>/{fs,lowers}      a layer unpacked in overlayfs's form; itself and those below it, top first
    layers/<chain ID>/{tar,index,fs,lowers}   or as it came, with an EROFS index of it; fs stands for its root
    driver                             which way is taken for what comes: snapshot.drivers
    writable/<key>/{fs,work,parent}    what a container writes; a symlink to the layer it stands on
    ingest/<chain ID>/                 a layer being unpacked, locked (flock on the directory) by who does it
    lock                               shared while a key is prepared, exclusive while layers are removed

Locks are taken in this order: ingest/ of the layers, from the base up; lock. Layers appear whole,
by rename, after their data has reached the disk. Nothing is ever mounted in the host's tree: a mount is
a descriptor that its holder attaches in a mount namespace of its own.
"""

from veloci.snapshot.snapshots import Snapshots

__all__ = ["Snapshots"]
