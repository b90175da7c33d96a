"""From any ONNX file to the one graph: parsed as data, rebuilt of plain ATen calls, nothing in it is ever run."""
