"""Which candidates are trained as one stack, and what a group does at the end of an epoch."""
