"""The library that all methods share. It knows no method by name."""
