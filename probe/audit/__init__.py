"""The audit: what is wrong with a data set before anyone trains on it."""

from probe.audit.dataset_audit import Audit, audit_dataset, quick_audit
from probe.audit.table_checks import Finding

__all__ = ["Audit", "Finding", "audit_dataset", "quick_audit"]
