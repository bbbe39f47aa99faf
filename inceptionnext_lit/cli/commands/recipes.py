"""``recipes``: list the recipes that ship with the toolkit."""

from inceptionnext_lit.cli import TOOLS
from inceptionnext_lit.cli.recipes.shipped import FOLDER, first_line, names
from inceptionnext_lit.cli.tools import ToolParser, sentence
from inceptionnext_lit.program import usage_name

EXAMPLES = """\
Pass a name to --config, with or without .yaml. A file of that name in the current folder takes precedence. Recipes in
trainer/ can be added to any other recipe with a second --config.

examples:
  python cli.py fit --config finetune/folder --data.root MY_IMAGES
  python cli.py fit --config tiny --config trainer/ddp --data.root IMAGENET
"""


def run(words: list[str]) -> None:
    """Run the command.

    Args:
        words: Command-line arguments after ``recipes``.

    Raises:
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    parser = ToolParser("recipes", f"{sentence(TOOLS['recipes'])}\n\n{EXAMPLES}")
    parser.parse_args(words)
    shipped = names()
    width = max(map(len, shipped))
    for name in shipped:
        print(f"{name:<{width}}  {first_line(name)}")
    print(f"\nUse one: {usage_name()} fit --config NAME --data.root FOLDER\nFiles:   {FOLDER}")
