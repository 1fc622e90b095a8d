"""Heads: one file for each family of outputs, pure functions from tensors to scores."""
