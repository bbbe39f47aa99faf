"""Lightning callbacks of a run: exact resumption, checkpoints, guards, console output and logging."""
