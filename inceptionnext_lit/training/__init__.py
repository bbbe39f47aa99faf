"""What training needs beside the model and the data: schedules, mixing, checkpoints, callbacks."""
