"""Prototypes: is this decision like the others of its class? NumPy and scikit-learn only, free of torch."""
