"""Lightbox as a library: load a model, read an image, explain a decision."""
