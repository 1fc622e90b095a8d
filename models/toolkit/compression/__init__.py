"""Classifiers made smaller and faster; torch only for pruning and distilling."""
