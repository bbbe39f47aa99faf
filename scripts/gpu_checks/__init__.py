"""What ``scripts/gpu_check.py`` runs: its parts, the processes they run in, and the tables."""
