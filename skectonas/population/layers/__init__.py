"""Layers of all candidates of a group at once: each computes its outputs and its gradients."""
