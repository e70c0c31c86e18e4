"""What the backend imports, what pyproject.toml asks for and what requirements/ pins agree."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OPTIONAL = {"kaolin"}  # imported where it is installed


def dependencies() -> dict[str, Requirement]:
    """pyproject.toml's, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {canonicalize_name(r.name): r for r in map(Requirement, project["dependencies"])}


def pins(name: str) -> dict[str, Requirement]:
    """Those of requirements/<name>, by package name."""
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(r.name): r for r in found}


def imported_packages() -> set[str]:
    """Top-level modules that the backend's files import, without its own and Python's."""
    names: set[str] = set()
    for file in (ROOT / "backend").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).split(".")[0])
    return names - set(sys.stdlib_module_names) - OPTIONAL - {"backend"}


def test_everything_the_backend_imports_is_a_dependency() -> None:
    distributions = packages_distributions()
    needed = {canonicalize_name(distributions.get(name, [name])[0]) for name in imported_packages()}
    assert needed <= set(dependencies())


def test_every_dependency_is_pinned_within_its_range() -> None:
    for name, wanted in dependencies().items():
        for file in ("cpu.txt", "cuda.txt"):
            (pin,) = pins(file)[name].specifier
            assert pin.operator == "==", f"{file}: {name}"
            assert wanted.specifier.contains(pin.version), f"{file}: {name}"


def test_cpu_and_cuda_differ_in_torch_and_kaolin_alone() -> None:
    cpu, cuda = pins("cpu.txt"), pins("cuda.txt")
    assert {name for name in cuda if str(cuda[name]) != str(cpu.get(name))} == {"torch", "kaolin"}


def test_no_requirement_can_be_met_by_the_empty_kaolin_of_the_package_index() -> None:
    assert "kaolin" not in dependencies()
    assert not any(pins("cuda.txt")["kaolin"].specifier.contains(version) for version in ("0.0", "0.1"))
