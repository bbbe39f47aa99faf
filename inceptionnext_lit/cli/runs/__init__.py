"""The folder of a run: its lock, its loggers, and which run is continued with what."""
