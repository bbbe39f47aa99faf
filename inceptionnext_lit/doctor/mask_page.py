"""The part of the doctor's page about masks: shares of the classes, and a contact sheet with overlays."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.data.masks.overlay import IGNORED_COLOR, overlaid
from inceptionnext_lit.data.masks.scheme import Scheme
from inceptionnext_lit.doctor.findings import below
from inceptionnext_lit.doctor.scenes import SceneReport
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import printable

_SIDE = 220  # pixels


def render_masks(report: SceneReport) -> list[str]:
    """Render the shares of the classes, their colors, and some images with their masks, as parts of the page.

    Args:
        report: The report.
    """
    if report.scheme is None:
        return []
    parts = ["<h2>Pixels</h2>"]
    parts += [_share_table(split, shares, report.ignored[split]) for split, shares in report.shares.items()]
    parts.append("<h2>Images with masks</h2>")
    parts.append(_legend(report.scheme))
    for image, mask in report.sheet:
        if (source := overlay(image, mask, report.scheme)) is not None:
            name = html.escape(printable(below(image, report.root)))
            picture = f'<img src="{source}" alt="{name} with its mask">'
            parts.append(f'<figure style="width: {_SIDE}px">{picture}<figcaption>{name}</figcaption></figure>')
    return parts


def overlay(image: str | Path, mask: str, scheme: Scheme) -> str | None:
    """Return an image with its mask in color on top as a ``data:`` URL; None if one cannot be read.

    Args:
        image: The image.
        mask: The mask.
        scheme: Reads the mask.
    """
    try:
        picture = load_image(image)
        indices = Image.fromarray(scheme.read(mask))
    except UserError:
        return None
    picture.thumbnail((_SIDE, _SIDE))
    small = np.asarray(indices.resize(picture.size, Image.Resampling.NEAREST))
    mixed = overlaid(np.asarray(picture), small, scheme.palette, scheme.names)
    file = io.BytesIO()
    Image.fromarray(mixed).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _share_table(split: str, shares: dict[str, float], ignored: float) -> str:
    rows = "\n".join(
        f'<tr><td>{html.escape(printable(name))}</td><td class="number">{100 * share:.2f}%</td>'
        f'<td class="bar"><div style="width: {100 * share:.1f}%"></div></td></tr>'
        for name, share in shares.items()
    )
    heading = html.escape(f"{split}: ignored {100 * ignored:.1f}% of all pixels")
    head = '<tr><th>class</th><th class="number">labeled pixels</th><th></th></tr>'
    return f"<h3>{heading}</h3>\n<table>\n{head}\n{rows}\n</table>"


def _legend(scheme: Scheme) -> str:
    items = [_swatch(name, color) for name, color in zip(scheme.names, scheme.palette, strict=True)]
    return f"<p>{' '.join(items)} {_swatch('ignored', IGNORED_COLOR)}</p>"


def _swatch(name: str, color: Sequence[int]) -> str:
    style = f"background: rgb({', '.join(map(str, color))}); border: 1px solid #888; padding: 0 0.6em"
    return f'<span style="{style}"></span> {html.escape(printable(name))}'
