"""Blocks into hosts: specs, places, the trial run, the wrapper, and what it saves."""
