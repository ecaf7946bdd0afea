"""Checkpoint and restore through CRIU. Takes a container that runs, gives a directory of images; and back.

rpc         the messages, as bytes           service     the program `criu swrk`, one request each
options     what the commands take           checkpoint, restore
"""
