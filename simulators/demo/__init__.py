"""The demo: a whole line on one machine, and the reconciliation of what happened with what was said."""
