"""What a run leaves: rows, the words for them, and a folder of results."""
