"""The work of every command, as functions that Python can call: one module per command."""
