"""Lightning callbacks of a run: exact continuation, checkpoints, guards, and what is printed and logged."""
