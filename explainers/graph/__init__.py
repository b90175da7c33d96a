"""Loading: whatever file a model arrives in, it becomes one immutable graph of ATen calls."""
