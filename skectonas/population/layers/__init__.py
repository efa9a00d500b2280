"""Layers of all candidates of a group at once, which compute outputs and gradients."""
