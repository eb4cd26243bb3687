"""Techniques, one file each: what they change, what their keys say, what they refuse."""
