"""Hosts with attention: building them, loading files into them, and grouping what they train."""
