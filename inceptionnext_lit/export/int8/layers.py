"""The layers of a captured graph that have weights."""

from typing import Any

from torch.export import ExportedProgram

_KINDS = {"conv1d": "convolution", "conv2d": "convolution", "conv3d": "convolution", "linear": "linear"}


def layers_of(program: ExportedProgram) -> dict[str, list[str]]:
    """Return the names of the modules of convolutions and linear layers, in the order of the graph.

    Args:
        program: The graph.

    Returns:
        Lists by ``convolution`` and ``linear``.
    """
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS.values()}
    for node in program.graph.nodes:
        if (kind := kind_of(node)) is not None:
            found[kind].append(module_of(node))
    return found


def kind_of(node: Any) -> str | None:
    """Return ``convolution`` or ``linear`` for a node of a graph that is such a layer, otherwise None.

    Args:
        node: The node.
    """
    if node.op != "call_function":
        return None
    namespace, _, name = str(node.target).partition(".")
    return _KINDS.get(name.partition(".")[0]) if namespace == "aten" else None


def module_of(node: Any) -> str:
    """Return the name of the module that a node is of; that of the node if it is not known.

    Args:
        node: The node.
    """
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    name = str(stack[-1][0]).removeprefix("L['self'].") if stack else ""
    return name.removeprefix("model.") or str(node.name)
