"""The panel's installation, with a real environment and a real pip, of a backend that is next to nothing."""

from __future__ import annotations

import bpy
import pytest

from ..install_ground import Ground
from .backends import status, wait_for

pytestmark = pytest.mark.blender


@pytest.fixture
def ground(addon, tmp_path, monkeypatch) -> Ground:
    """The add-on, as if it had come with this ground's backend; it may use the network."""
    made, config = Ground(tmp_path), addon.preferences.config()
    (made.source / "backend").mkdir()
    (made.source / "backend" / "__init__.py").write_text('__version__ = "1.0"\n')
    (made.source / "backend" / "__main__.py").write_text('raise SystemExit("there is nothing to serve")\n')
    monkeypatch.setattr(
        addon.preferences, "config", lambda: config._replace(home=made.home, addon=made.source, cuda=False)
    )
    monkeypatch.setattr(addon.install, "ROOM", {"cpu": 0, "cuda": 0})
    monkeypatch.setattr(bpy.context.preferences.system, "use_online_access", True)
    return made


def test_an_installation_is_shown_cancelled_and_repeated_to_its_end(addon, ground) -> None:
    assert bpy.ops.diorama.install() == {"FINISHED"}
    wait_for(addon, lambda: status().backend == "installing" and status().install_line)
    assert not bpy.ops.diorama.install.poll()
    bpy.ops.diorama.cancel_install()
    wait_for(addon, lambda: status().backend == "none")
    assert "cancelled" in status().notice and not status().fault

    bpy.ops.diorama.install()
    wait_for(addon, lambda: status().fault)  # of its backend, which is started as soon as it is installed
    assert "ended at once" in status().fault and "nothing to serve" in status().fault
    assert addon.install.installed_python(ground.home) is not None
    assert "Successfully installed tiny-1.0" in (ground.home / "install.log").read_text()
