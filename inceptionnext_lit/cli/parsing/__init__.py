"""The command line of ``fit``, ``validate``, ``test`` and ``predict``: keys, help, and messages about wrong keys."""
