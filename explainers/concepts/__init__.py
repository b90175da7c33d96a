"""What a model used: the concepts of a layer, their relevance, where it comes from, and what if they changed."""
