#!/usr/bin/env bash
# Run every test: those of the backend in .venv, those inside Blender in .venv-bpy45. Arguments go to both pytests.
# Exit status: that of the backend's pytest where it is not 0, else that of Blender's.
set -u
cd "$(dirname "$0")/.."

if command -v npm >/dev/null && [ ! -d node_modules/gltf-validator ]; then
    # --prefix: npm would otherwise climb to a parent folder that has a node_modules.
    npm install --prefix . --no-save --no-audit --no-fund --loglevel=error gltf-validator@2.0.0-dev.3.10 ||
        echo "note: npm could not install gltf-validator: its tests are skipped"
fi
why_no_blender=$(bash scripts/install_blender.sh)
no_blender=$?

.venv/bin/python -m pytest "$@"
backend=$?

if [ "$no_blender" -eq 0 ]; then
    echo
    echo "Inside Blender:"
    .venv-bpy45/bin/python tests/blender/run.py "$@"
    blender=$?
else
    echo "SKIPPED tests/blender: $why_no_blender"
    if [ "${BLENDER:-auto}" = required ]; then blender=1; else blender=0; fi
fi
# Arguments may pick tests of one side only: 5, "nothing collected", is then no failure where the other side passed.
if [ "$#" -gt 0 ] && [ "$no_blender" -eq 0 ]; then
    case "$backend $blender" in "0 5" | "5 0") exit 0 ;; esac
fi
if [ "$backend" -ne 0 ]; then exit "$backend"; fi
exit "$blender"
