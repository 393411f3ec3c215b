"""What a command draws at its end: figures of the record that its run is kept in."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probe.base.errors import ProbeError, reason
from probe.base.runtime import log

if TYPE_CHECKING:
    from probe.records.record import Record, Run


def draw_all(
    names: Sequence[str], record: "Record", dataset: str | None, metric: str = "auroc", run: "Run | None" = None
) -> list[str]:
    """Draw figures by name, of a single run if it is given, into the folder of a record; the files.

    Raises ProbeError when they cannot be written.
    """
    from figures.registry import draw
    from probe.records.view import Missing, View

    if record.folder is None:
        return []
    files: list[str] = []
    for name in names:
        try:
            files += draw(name, View(record, metric, dataset=dataset, run=run), record.folder)
        except Missing as error:  # such as the differences of a single strategy
            log.info("%s: %s", name, error)
        except OSError as error:
            raise ProbeError(f"cannot draw into '{record.folder}': {reason(error)}; the results are kept") from None
    return files
