"""The directive ``api-package``: what a package offers for import, then each of its modules, from the docstrings."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id
from sphinx.util.typing import ExtensionMetadata


def module_names(package: str) -> list[str]:
    """Full names of the public modules of a package; below the top one, also those of the packages within it.

    Args:
        package: The package's full name.
    """
    names = []
    for found in iter_modules(import_module(package).__path__):
        name = f"{package}.{found.name}"
        if found.name.startswith("_") or (found.ispkg and "." not in package):  # which have pages of their own
            continue
        names += [name, *module_names(name)] if found.ispkg else [name]
    return names


def has_members(module: ModuleType) -> bool:
    """Whether a module defines a public class or function, so that there is something to document."""
    return any(
        not name.startswith("_") and getattr(value, "__module__", None) == module.__name__ and callable(value)
        for name, value in vars(module).items()
    )


class ApiPackage(SphinxDirective):
    """The reference of one package."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The names to import from the package, then a section for each module."""
        package = self.arguments[0]
        content = self._parse(f".. automodule:: {package}\n   :no-members:\n")
        content += self._exports(import_module(package))
        for name in self._in_order(package):
            module = import_module(name)
            if has_members(module):
                label = make_id(self.env, self.state.document, "", name)
                section = nodes.section("", nodes.title("", name.removeprefix(f"{package}.")), ids=[label])
                # timm's register_model writes __all__ where it registers
                section += self._parse(f".. automodule:: {name}\n   :members:\n   :ignore-module-all:\n")
                content.append(section)
        return content

    def _in_order(self, package: str) -> list[str]:
        """The modules behind the names that the package offers first, then the others by name."""
        module = import_module(package)
        homes = [getattr(getattr(module, name), "__module__", "") for name in getattr(module, "__all__", ())]
        names = module_names(package)
        return [name for name in dict.fromkeys([*homes, *names]) if name in names]

    def _exports(self, package: ModuleType) -> list[nodes.Node]:
        """A sentence on the names that may be imported from the package itself, linked to where they are described."""
        links = []
        for name in getattr(package, "__all__", ()):
            home = getattr(getattr(package, name), "__module__", None)
            links.append(f":py:obj:`{name} <{home}.{name}>`" if home and home != package.__name__ else f"``{name}``")
        return self._parse(f"Import from here: {', '.join(links)}.\n") if links else []

    def _parse(self, text: str) -> list[nodes.Node]:
        return self.parse_text_to_nodes(f"```{{eval-rst}}\n{text}```\n")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directive."""
    app.add_directive("api-package", ApiPackage)
    return {"parallel_read_safe": True}
