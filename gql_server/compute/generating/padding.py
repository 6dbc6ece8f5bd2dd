"""How much padding batches may have; whoever only counts it must not import torch."""

FEW_POSITIONS = 4_096
"""Positions of a batch, padding among them, up to which it does not matter how many are padding."""
MAX_PADDING = 2
"""Limit on a larger batch's positions when it takes in others, as a multiple of those of its texts."""
