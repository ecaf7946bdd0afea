"""Takes a layer's tar as it goes by, gives an EROFS index of it: what the kernel needs to read that tar as files.

The index holds inodes, directories and attributes; what is in the files stays in the tar, its second device.
https://docs.kernel.org/filesystems/erofs.html
"""
