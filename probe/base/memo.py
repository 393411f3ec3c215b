"""Things that take long to make, kept for as long as they are used."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Memo(Generic[Made]):
    """What was made for a key, made once; the `most` last used are kept. Nothing is kept for the key None."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._made: OrderedDict[Hashable, Made] = OrderedDict()

    def __call__(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gives, or gave for the same key. What raises is not kept."""
        if key is None:
            return make()
        if key not in self._made:
            self._made[key] = make()
        self._made.move_to_end(key)
        while len(self._made) > self.most:
            self._made.popitem(last=False)
        return self._made[key]
