"""End to end: the whole pipeline in its own processes, counted from both ends."""
