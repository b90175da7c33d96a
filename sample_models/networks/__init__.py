"""The architectures of the sample models, small and plain."""
