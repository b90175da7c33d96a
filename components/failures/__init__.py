"""Where a model fails: figures, who was taken for what, for whom it is worse than for others."""
