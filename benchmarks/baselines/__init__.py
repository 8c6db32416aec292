"""Baselines that the methods are compared with, trained by the same trainer."""
