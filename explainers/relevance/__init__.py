"""Relevance by propagation rules over one recorded forward pass."""
