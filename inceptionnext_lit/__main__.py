"""The command line: ``python -m inceptionnext_lit --help``."""

from inceptionnext_lit.cli import main

if __name__ == "__main__":
    main()
