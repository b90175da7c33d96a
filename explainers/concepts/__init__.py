"""Questions about concepts: what a model used, where it is seen, where it comes from, and what if it changed."""
