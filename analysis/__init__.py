"""Analysis of features: reads arrays and rows, never a network."""
