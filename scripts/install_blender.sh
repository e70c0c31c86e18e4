#!/usr/bin/env bash
# Make .venv-bpy45, an environment with Blender 4.5 as a Python module and what its tests need. Another Blender: give its
# version (4.2 or 5.0) as the argument, and the environment is .venv-bpy42 or .venv-bpy50.
# Exit status 0: it works. 1: it does not, and the reason and remedy are the only line on standard output.
set -u
cd "$(dirname "$0")/.."
version=${1:-4.5}
venv=.venv-bpy${version/./}
packages="libx11-6 libxrender1 libxfixes3 libxi6 libxkbcommon0 libxext6 libsm6 libice6 libgl1"

cannot() { echo "$*"; exit 1; }

find_python() { # these modules are built for Python 3.11 and no other
    for candidate in "${PYTHON:-python3}" python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

install_libraries() {
    local missing="" package
    command -v dpkg-query >/dev/null || return 0
    for package in $packages; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        cannot "Blender's system libraries are missing. Run: sudo apt-get install$missing"
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >&2 ||
        cannot "apt-get could not install Blender's system libraries:$missing"
}

requirements() { # the pinned 4.5, or the newest of another version with the same companions
    if [ "$version" = 4.5 ]; then cat requirements/blender.txt; else sed "s/^bpy==.*/bpy==$version.*/" requirements/blender.txt; fi
}

case $version in 4.2 | 4.5 | 5.0) ;; *) cannot "there is no environment for Blender $version: choose 4.2, 4.5 or 5.0" ;; esac
if [ ! "$venv/ready.stamp" -nt requirements/blender.txt ]; then
    python=$(find_python)
    [ -n "$python" ] || cannot "the Blender $version module needs Python 3.11, and there is no python3.11 on the PATH"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" >&2 || cannot "could not make the environment $venv"
    requirements >"$venv/requirements.txt"
    "$venv/bin/python" -m pip install --disable-pip-version-check --quiet -r "$venv/requirements.txt" >&2 ||
        cannot "pip could not install Blender $version from requirements/blender.txt; its message is above"
    install_libraries
    fault=$("$venv/bin/python" -c 'import bpy' 2>&1) || cannot "the Blender module cannot be imported: ${fault##*$'\n'}"
    touch "$venv/ready.stamp"
fi
