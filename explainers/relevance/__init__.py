"""Relevance by propagation rules over one recorded forward pass."""

#: The names of all composites.
COMPOSITES = (
    "epsilon", "epsilon-plus", "epsilon-plus-flat", "epsilon-alpha2-beta1-flat", "epsilon-gamma-box", "attnlrp",
    "cp-lrp",
)  # fmt: skip
