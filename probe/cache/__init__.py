"""The feature cache: one memory-mappable array per tap, keyed by what its numbers come from.

`<cache>/<digest>/` holds `manifest.json` (the whole request, the taps, a checksum per chunk),
`rows.csv` (id, label, group, split, in the order of the arrays) and `<tap>.npy`.
"""
