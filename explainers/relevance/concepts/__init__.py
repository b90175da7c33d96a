"""Concepts on the graph: what they are, what one decision used of them, and the decision without them."""
