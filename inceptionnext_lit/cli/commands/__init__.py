"""The commands, a module each: its options and what it calls. ``fit`` stands for all that have a trainer."""
