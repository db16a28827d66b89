"""Errors, files, code digests and distributed processes, used by all other packages."""
