"""Hosts by name, one library a file: each builds a model and tells how its input is normalised."""
