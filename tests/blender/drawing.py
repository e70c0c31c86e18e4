"""Draws the add-on's panels without a window, onto a layout that checks what it is given."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import bpy

from .backends import Cost, timed

ICONS = set(bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items.keys())


class Layout:
    """Stands in for UILayout, which only Blender can make; keeps the texts that a user would read."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __getattr__(self, name: str) -> Any:
        function = bpy.types.UILayout.bl_rna.functions[name]  # KeyError: there is no such element
        known = set(function.parameters.keys())

        def element(*values: Any, **options: Any) -> Any:
            assert set(options) <= known, f"{name} has no option {set(options) - known}"
            assert options.get("icon", "NONE") in ICONS, options["icon"]
            self.texts.append(options.get("text", ""))
            return getattr(self, f"_{name}" if hasattr(type(self), f"_{name}") else "_plain")(*values)

        return element

    def _plain(self, *values: Any) -> Layout:
        return Layout(self.texts)

    def _prop(self, data: Any, name: str) -> None:
        assert name in data.bl_rna.properties, f"{data} has no {name}"

    def _operator(self, name: str) -> Any:
        module, _, function = name.partition(".")
        kind = getattr(getattr(bpy.ops, module), function).get_rna_type()
        return SimpleNamespace(**dict.fromkeys(kind.properties.keys()))

    def _operator_menu_enum(self, name: str, key: str) -> None:
        assert hasattr(self._operator(name), key)

    def _menu(self, name: str) -> None:
        assert hasattr(bpy.types, name)

    def _template_list(self, kind: str, _: str, data: Any, rows: str, active: Any, index: str) -> None:
        assert hasattr(bpy.types, kind)
        assert rows in data.bl_rna.properties
        assert index in active.bl_rna.properties


class Context:
    """Blender's context, in an Image Editor that shows the first image there is: without a window there is none."""

    def __init__(self) -> None:
        self.space_data = SimpleNamespace(image=next(iter(bpy.data.images), None))

    def __getattr__(self, name: str) -> Any:
        return getattr(bpy.context, name)


def draw(addon: ModuleType, kind: type) -> list[str]:
    """The texts of a panel or menu as it is now."""
    texts: list[str] = []
    kind.draw(SimpleNamespace(layout=Layout(texts)), Context())
    return texts


def drawn(addon: ModuleType) -> str:
    """Every text of the tabs."""
    return "\n".join(text for kind in panels(addon) for text in draw(addon, kind))


def panels(addon: ModuleType) -> list[type]:
    every = [*addon.panels.CLASSES, *addon.panels_results.CLASSES, *addon.panels_picture.CLASSES]
    return [kind for kind in every if issubclass(kind, bpy.types.Panel | bpy.types.Menu)]


def draw_everything(addon: ModuleType) -> list[Cost]:
    """What drawing each panel costs, the preferences and the buttons' poll functions with them."""
    costs = [timed(kind.__name__, lambda: draw(addon, kind)) for kind in panels(addon)]  # noqa: B023 - called at once
    chosen = addon.preferences.preferences()
    costs.append(timed("preferences", lambda: addon.layouts.draw_preferences(Layout([]), chosen, bpy.context)))
    buttons = ("generate", "generate_image", "edit_image")
    return costs + [timed("poll", getattr(bpy.ops.diorama, button).poll) for button in buttons]
