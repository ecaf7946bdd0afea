"""The OCI and Docker documents as typed values. Takes bytes, gives documents; no I/O."""
