"""Threads and processes that train groups of a round side by side."""
