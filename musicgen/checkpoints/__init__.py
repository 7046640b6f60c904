"""Checkpoint dialects: find the files, read the configuration, translate the names. No modules are built here."""
