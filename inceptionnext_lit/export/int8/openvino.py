"""OpenVINO files in int8, by NNCF."""

import contextlib
import io
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.int8.images import FileImages
from inceptionnext_lit.export.int8.layers import layers_of
from inceptionnext_lit.export.int8.smoothing import ALPHA
from inceptionnext_lit.export.openvino import save_model

if TYPE_CHECKING:
    from inceptionnext_lit.export.graph import Graph

_KINDS = {"Convolution": "convolution", "GroupConvolution": "convolution", "MatMul": "linear"}
_PASSED = ("Convert", "Reshape", "Transpose", "Unsqueeze")  # between a constant and its layer
_PROBED = 32  # calibration images if one layer alone is quantized, to see how sensitive it is
_NO_OPERATION = ("Parameter", "Constant", "Result")


class OpenVinoQuantizer:
    """Quantizes an OpenVINO file with NNCF; see :class:`Quantizer`.

    The preprocessing and what follows the last layer stay in floats.

    Args:
        graph: The classifier.
        file: Its float file.
        images: Images to calibrate on.
    """

    method = (
        "NNCF, preset MIXED: weights in int8, symmetric, per output channel; activations in 8 bits, static, ranges "
        "from histograms; biases corrected"
    )

    def __init__(self, graph: "Graph", file: Path, images: FileImages) -> None:
        import openvino

        self._file, self._images = file, images
        order = openvino.Core().read_model(file).get_ordered_ops()
        layers = [op for op in order if op.get_type_name() in _KINDS and _has_weights(op)]
        self._nodes = _named(layers, layers_of(graph.program))
        self.layers = list(self._nodes)
        self._attends = any(op.get_type_name() == "ScaledDotProductAttention" for op in order)
        between = _reached(layers, _users) & _reached(layers, _sources)
        operations = [op.get_friendly_name() for op in order if op.get_type_name() not in _NO_OPERATION]
        self._outside = [name for name in operations if name not in between]
        self._is_smoothed = False

    @property
    def smoothed(self) -> "OpenVinoQuantizer | None":
        """The same with SmoothQuant; None with attention, for which NNCF smooths linear layers anyway."""
        if self._attends:
            return None
        found = copy(self)
        found._is_smoothed = True
        found.method = f"{self.method}; SmoothQuant with alpha {ALPHA:g}"
        return found

    def write(self, file: Path, layers: Collection[str]) -> None:
        """Write the classifier with some layers in int8.

        Args:
            file: The file.
            layers: These layers.

        Raises:
            UserError: If NNCF cannot smooth the graph.
        """
        os.environ.setdefault("NNCF_CI", "1")  # otherwise it sends reports of its use
        import nncf
        import openvino
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        nncf.set_log_level(40)  # errors
        options: dict[str, Any] = {}
        if self._is_smoothed:
            options["smooth_quant_alphas"] = nncf.AdvancedSmoothQuantParameters(convolution=ALPHA, matmul=ALPHA)
        floats = [name for layer, name in self._nodes.items() if layer not in layers]
        images = self._images if len(layers) > 1 else self._images.first(_PROBED)
        inputs = [batch for _, batch in images.batches(1)]
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # progress bars
                quantized = nncf.quantize(
                    openvino.Core().read_model(self._file),
                    nncf.Dataset(inputs),
                    preset=nncf.QuantizationPreset.MIXED,
                    subset_size=len(inputs),
                    # SmoothQuant is only run for this type
                    model_type=nncf.ModelType.TRANSFORMER if self._attends or self._is_smoothed else None,
                    ignored_scope=nncf.IgnoredScope(names=[*self._outside, *floats], validate=False),
                    advanced_parameters=nncf.AdvancedQuantizationParameters(
                        # NNCF's usual ranges, means over the images, cut off the largest values
                        activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM,
                        **options,
                    ),
                )
        except nncf.InternalError as error:
            if not self._is_smoothed:
                raise
            raise UserError(f"NNCF cannot smooth the graph of this model: {error}") from error
        save_model(quantized, file)


def quantizer(graph: "Graph", file: Path, images: FileImages, batch: int) -> OpenVinoQuantizer:
    """Return what quantizes an OpenVINO file; see :class:`OpenVinoQuantizer`.

    Args:
        graph: The classifier.
        file: Its file.
        images: Images to calibrate on.
        batch: Images that the file takes at once.
    """
    return OpenVinoQuantizer(graph, file, images)


def _named(operations: Iterable[Any], modules: dict[str, list[str]]) -> dict[str, str]:
    """Return the names of operations by the modules that they are of; by themselves if these are not known."""
    groups: dict[str, list[str]] = {kind: [] for kind in modules}
    for op in operations:
        groups[_KINDS[op.get_type_name()]].append(op.get_friendly_name())
    are_known = all(
        len(names) == len(groups[kind]) and max(Counter(names).values(), default=1) == 1
        for kind, names in modules.items()
    )
    if not are_known:
        return {name: name for names in groups.values() for name in names}
    module = {
        name: layer
        for kind, names in modules.items()
        for name, layer in zip(sorted(groups[kind], key=_number), names, strict=True)
    }
    return {module[op.get_friendly_name()]: op.get_friendly_name() for op in operations}


def _number(name: str) -> int:
    """Return the position in the graph that OpenVINO's name of a layer says: 12 of ``convolution_12/…``."""
    digits = name.partition("/")[0].rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0


def _has_weights(op: Any) -> bool:
    """Return whether one factor of an operation is constant."""
    source = op.input_value(1).get_node()
    while source.get_type_name() in _PASSED:
        source = source.input_value(0).get_node()
    return bool(source.get_type_name() == "Constant")


def _users(op: Any) -> Iterable[Any]:
    return (place.get_node() for output in op.outputs() for place in output.get_target_inputs())


def _sources(op: Any) -> Iterable[Any]:
    return (value.get_node() for value in op.input_values())


def _reached(start: Iterable[Any], neighbors: Callable[[Any], Iterable[Any]]) -> set[str]:
    """Return the names of operations, and of all that lead on from them."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        op = waiting.pop()
        if op.get_friendly_name() not in found:
            found.add(op.get_friendly_name())
            waiting.extend(neighbors(op))
    return found
