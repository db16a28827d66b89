"""Errors, files, source digests and distributed runs: the ground that everything else stands on."""
