"""Errors, files, code digests, devices and distributed processes, used by all other packages."""
