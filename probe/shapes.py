"""Shape aliases, checked at run time in tests.

Axes: `n` images, `d` features, `k` classes or labels, `b` bootstrap draws, `s` strengths.
"""

from jaxtyping import Float, Integer, Shaped
from numpy import ndarray

Features2d = Float[ndarray, "n d"]
Labels = Integer[ndarray, "n"] | Integer[ndarray, "n k"]
Probabilities = Float[ndarray, "n k"]
ProbabilitiesAt = Float[ndarray, "... n k"]  # at one or several strengths
RowWeights = Float[ndarray, "b n"]
Draws = Float[ndarray, "b"]
Groups = Shaped[ndarray, "n"]  # names, as text
