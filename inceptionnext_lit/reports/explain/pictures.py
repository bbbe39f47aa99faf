"""Heat maps of a classifier's mistakes, as pictures for the page of ``evaluate``."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from inceptionnext_lit.data.transforms.pipeline import reader
from inceptionnext_lit.reports.evaluation.page import Explained
from inceptionnext_lit.reports.evaluation.table import PredictionTable
from inceptionnext_lit.reports.explain.attribution import Method, explain
from inceptionnext_lit.reports.explain.figure import as_picture
from inceptionnext_lit.reports.explain.overlay import Picture, overlay
from inceptionnext_lit.tasks.classification import ClassificationTask

_ALPHA = 0.6
_SIDE = 112  # pixels


def explain_images(
    task: ClassificationTask, table: PredictionTable, indices: Sequence[int], method: Method
) -> list[Explained]:
    """Draw heat maps for the predicted classes of some images.

    Args:
        task: The classifier, with preprocessing.
        table: Its predictions.
        indices: The images.
        method: The method.

    Raises:
        UserError: If the libraries are not installed, or an image cannot be read.
    """
    assert task.preprocessing is not None
    load = reader(task.preprocessing)
    number = {name: place for place, name in enumerate(task.class_names)}
    found = []
    for index in indices:
        predicted = table.class_names[int(table.predicted[index])]
        explanation = explain(task, load(table.paths[index]), method, number.get(predicted))
        picture = overlay(as_picture(explanation.pixels), explanation.heat, _ALPHA)
        text = f"Heat maps for the predicted class, by {method}. What speaks against it is not shown."
        found.append(Explained(index, _jpeg(picture), text, explanation.remark))
    return found


def _jpeg(picture: Picture) -> str:
    image = Image.fromarray((255 * np.clip(picture, 0, 1)).astype(np.uint8))
    image = image.resize((_SIDE, round(_SIDE * image.height / image.width)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
