"""Operators of onnxruntime's own domain, which its optimiser makes of several of ONNX."""

from __future__ import annotations
