"""The places an image can be, and copy from any to any.

place            what a place does; the protocols of sources, destinations and progress
names            `docker://…`, `oci:…` and the others, as skopeo writes them, to places
listing          the images in a file or folder that holds several
copy             one image, or all of an index, from a place to a place
select, job      its parts: which image, and the work
memory           what is known of blobs elsewhere
edited           an image from elsewhere with changes; reshape: layers made one, or put on another base
collected        an index of images from several places
artifact         files as an artifact, and back; referrers: what refers to what
trees, validate  the files of an image as a list; whether all is what it says
registry         docker://host/repository:tag
store            the local store
layout           oci:directory[:name]; oci-archive:file[:name] is the same in a tar
directory        dir:directory, as skopeo lays it out
docker_archive   docker-archive:file[:name], what `docker save` writes
docker_daemon    docker-daemon:name[:tag], an image in a docker engine
files            a folder or a tar file as named files, to be read
tar              a tar file, written reproducibly
"""
