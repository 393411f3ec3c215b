"""Shape aliases, checked at run time in tests.

Axes: `n` images, `d` features, `k` classes or labels, `b` bootstrap draws, `s` strengths,
`u` units (rows or whole groups).
"""

from jaxtyping import Bool, Float, Integer, Shaped
from numpy import ndarray

Features2d = Float[ndarray, "n d"]
Labels = Integer[ndarray, "n"] | Integer[ndarray, "n k"]
Probabilities = Float[ndarray, "n k"]
ProbabilitiesAt = Float[ndarray, "... n k"]  # at one or several strengths
Answers = Integer[ndarray, "n k"]  # 1, 0 or, where a label is unknown, -1
Questions = Integer[ndarray, "q rows"]  # class numbers of each question, -1 where unknown
Decisions = Bool[ndarray, "n k"]
RowWeights = Float[ndarray, "b n"]
Counts = Float[ndarray, "n b"]  # the same weights, a row per image
Draws = Float[ndarray, "*many b"]
ScoreAndDraws = Float[ndarray, "*many b1"]  # the plain score, then b draws
LeftOut = Float[ndarray, "*many u"]
Groups = Shaped[ndarray, "n"]  # names, as text
Strata = Shaped[ndarray, "n"]
