"""A custom command in one file: a sheet of thumbnails, with a row for each class of a folder.

Usage: python examples/own_command.py sheet FOLDER --output FILE.png [--images N] [--side N]
"""

from pathlib import Path

from PIL import Image, ImageOps

from inceptionnext_lit.cli import add_command, main
from inceptionnext_lit.cli.tools import ToolParser
from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.errors import UserError


def run(words: list[str]) -> None:
    """Read the command line and draw the sheet.

    Args:
        words: Command-line arguments after the command.

    Raises:
        UserError: If the folder has no class folders.
    """
    parser = ToolParser("sheet", "A sheet of thumbnails, a row for each class of a folder.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of class folders")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png", help="output image")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="images per class (default: 8)")
    parser.add_argument("--side", type=int, default=64, metavar="N", help="side of a thumbnail in pixels (default: 64)")
    options = parser.parse_args(words)
    classes = sorted(path for path in options.folder.glob("*") if path.is_dir())
    if not classes:
        raise UserError(f"{options.folder} has no class folders; choose a folder such as MY_IMAGES/train.")
    draw(classes, options.images, options.side).save(options.output)
    print(f"{options.output}: {len(classes)} classes, up to {options.images} images each")


def draw(classes: list[Path], images: int, side: int) -> Image.Image:
    """Draw the sheet: a row for each class, with its first images by name.

    Args:
        classes: The class folders.
        images: Images per class.
        side: Side of a thumbnail in pixels.
    """
    sheet = Image.new("RGB", (images * side, len(classes) * side), "white")
    for row, folder in enumerate(classes):
        for column, path in enumerate(sorted(folder.iterdir())[:images]):
            sheet.paste(ImageOps.fit(load_image(path), (side, side)), (column * side, row * side))
    return sheet


if __name__ == "__main__":
    add_command("sheet", "a sheet of thumbnails of a folder's classes", __name__)
    main()
