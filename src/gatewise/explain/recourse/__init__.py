"""The nearest change that flips a decision: in the region, or over the network with proof."""
