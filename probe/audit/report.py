"""An audit as lines of text and as files."""

from pathlib import Path

from probe.audit.dataset_audit import Audit
from probe.data import SPLITS, Dataset
from probe.records.result_rows import to_json
from probe.records.text_tables import text_table


def audit_lines(audit: Audit) -> list[str]:
    """Counts, sizes and modes, how far labels follow looks, and what was found, the worst first."""
    data, counts = audit.data, audit.counts()
    columns = list(next(iter(counts.values())))
    rows = [[name, *(n[of] for of in columns)] for name, n in counts.items()]
    rows.append(["images", *data.counts().values(), *[""] * (len(columns) - len(SPLITS))])
    looks = ", ".join(f"{split} {of.agreement:.2f} (p = {of.p:.2g})" for split, of in audit.relations.items())
    groups = "" if data.groups is None else f" in {len(set(data.groups.tolist()))} groups"
    drawn = f"; splits drawn from seed {data.seed}: {', '.join(data.drawn)}" if data.drawn else ""
    return [
        f"{data.name}: {len(data)} images{groups}, {len(data.classes)} classes, {data.task}{drawn}",
        text_table(["class", *columns], rows),
        f"sizes: {_forms(audit.sizes)}; modes: {_forms(audit.modes)}",
        f"labels agree between images that look alike (chance 0): {looks or 'too few images to say'}",
        *(f"{finding.level.upper()}: {finding.text}" for finding in audit.findings),
        *([advice(data)] if audit.leaks else [] if audit.findings else ["nothing found"]),
    ]


def advice(data: Dataset) -> str:
    """What to do about leakage."""
    fix = "leave the splits out" if not data.drawn else "splits are then drawn again"
    return (
        "Copies keep together when a manifest gives them one name in the column 'group' "
        f"(audit.csv has one in 'copies'); {fix}, and no group is torn."
    )


def write_audit(audit: Audit, out: Path) -> list[str]:
    """Write `audit.json` and `audit.csv`, a row per image, into a folder; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "audit.json").write_text(to_json(audit.to_dict(), indent=1) + "\n", encoding="utf-8")
    audit.images.to_csv(out / "audit.csv", index=False)
    return [str(out / name) for name in ("audit.json", "audit.csv")]


def _forms(forms: dict[str, int], most: int = 4) -> str:
    shown = [f"{form} ({n})" for form, n in list(forms.items())[:most]]
    return ", ".join([*shown, *([f"{len(forms) - most} more"] if len(forms) > most else [])]) or "none"
