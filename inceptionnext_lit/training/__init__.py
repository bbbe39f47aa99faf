"""Training besides the model and the data: optimizers, schedules, checkpoints and callbacks."""
