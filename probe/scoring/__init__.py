"""From predictions to scores: which rows are scored, bootstrap weights, intervals, differences, the recommendation."""
