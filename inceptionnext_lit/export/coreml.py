"""Core ML packages for Apple's devices: folders, converted anywhere, and run on a Mac."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.metadata import KEY
from inceptionnext_lit.wording import first_line

if TYPE_CHECKING:
    import numpy as np

    from inceptionnext_lit.export.graph import Graph

_WEIGHTS = "Data/com.apple.CoreML/weights"


def write(graph: "Graph", file: Path) -> None:
    """Write a graph of one image in single precision. Pixels are an image in the sense of Core ML.

    Args:
        graph: The classifier.
        file: The package.

    Raises:
        UserError: If the model has operations that Core ML does not have.
    """
    import coremltools
    import numpy as np
    import torch

    from inceptionnext_lit.export.graph import INPUT

    shape = tuple(graph.example.shape)
    if graph.model.takes == "pixels":
        given = coremltools.ImageType(INPUT, shape, channel_first=False)
    else:
        given = coremltools.TensorType(INPUT, shape, dtype=np.float32)
    try:
        # Core ML passes images on as floats
        program = torch.export.export(graph.model, (graph.example.float(),)).run_decompositions({})
        model = coremltools.convert(
            program,
            inputs=[given],
            outputs=[coremltools.TensorType(name) for name in graph.model.outputs],
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS15,
            compute_precision=coremltools.precision.FLOAT32,
            skip_model_load=True,
        )
        model.save(os.fspath(file))
    except Exception as error:  # any type, from any pass
        raise UserError(
            f"The model cannot be converted by coremltools: {first_line(error)}; choose another --format."
        ) from error


def stamp(file: Path, text: str) -> None:
    """Store metadata under a key of the package's user-defined metadata, and the license and title that Xcode shows.

    Args:
        file: The package, which is rewritten.
        text: The metadata as JSON.
    """
    import coremltools

    content = json.loads(text)
    model = coremltools.models.MLModel(os.fspath(file), skip_model_load=True)
    model.user_defined_metadata[KEY] = text
    model.license = content["license"]
    model.short_description = f"{content['name']}, {content['num_classes']} classes"
    stamped = file.with_stem(f"{file.stem}.stamped")
    model.save(os.fspath(stamped))
    shutil.rmtree(file)
    stamped.rename(file)


class CoreMlSession:
    """A package that Core ML has loaded, on a Mac; see :class:`~inceptionnext_lit.export.formats.Session`.

    Args:
        file: The package.
    """

    def __init__(self, file: Path) -> None:
        import coremltools

        self._model: Any = coremltools.models.MLModel(os.fspath(file), compute_units=coremltools.ComputeUnit.CPU_ONLY)
        self.text = self._model.user_defined_metadata.get(KEY)
        description = self._model.get_spec().description
        self._input = description.input[0].name
        self._outputs = [one.name for one in description.output]

    def run(self, images: "np.ndarray") -> "list[np.ndarray]":
        """Return the outputs, in their order.

        Args:
            images: A batch of one, as the file takes it.
        """
        import numpy as np
        from PIL import Image

        given = Image.fromarray(images[0]) if images.dtype == np.uint8 else images
        found = self._model.predict({self._input: given})
        return [np.asarray(found[name]) for name in self._outputs]


class ComputedSession:
    """A package whose operations torch computes; see :class:`~inceptionnext_lit.export.formats.Session`.

    Args:
        file: The package.
    """

    def __init__(self, file: Path) -> None:
        import coremltools
        from coremltools.converters.mil.frontend.milproto.load import load

        spec = coremltools.utils.load_spec(os.fspath(file))
        self._program: Any = load(spec, spec.specificationVersion, os.fspath(file / _WEIGHTS))
        self._is_image = spec.description.input[0].type.WhichOneof("Type") == "imageType"
        self.text = spec.description.metadata.userDefined.get(KEY)

    def run(self, images: "np.ndarray") -> "list[np.ndarray]":
        """Return the outputs, in their order.

        Args:
            images: A batch of one, as the file takes it.
        """
        import torch

        from inceptionnext_lit.export.mil import run

        given = torch.from_numpy(images)
        if self._is_image:
            given = given.permute(0, 3, 1, 2).float()  # as Core ML passes images on: (1, H, W, 3) -> (1, 3, H, W)
        with torch.inference_mode():
            return [output.numpy() for output in run(self._program, given)]


def open_session(file: Path) -> CoreMlSession | ComputedSession:
    """Load a package: with Core ML on a Mac, elsewhere to be computed with torch for a check.

    Args:
        file: The package.

    Raises:
        UserError: If it is damaged, or not a package of Core ML.
    """
    try:
        return CoreMlSession(file) if sys.platform == "darwin" else ComputedSession(file)
    except Exception as error:  # coremltools' own types, and those of the schema's reader
        raise UserError(f"{file} cannot be loaded by coremltools: {first_line(error)}.") from error
