"""The command line: ``python cli.py --help``."""

from inceptionnext_lit.cli import main

if __name__ == "__main__":
    main()
