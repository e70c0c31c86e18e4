"""What goes to pip and comes from it: the index that a user typed, progress, faults in plain words."""

import pytest

from .addon_modules import addon_module

pip_output = addon_module("pip_output")
torch_build = addon_module("torch_build")


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("", ""),
        ("  ", ""),
        (" https://index.example/whl/cpu ", "https://index.example/whl/cpu"),
        ("pip3 install torch torchvision --index-url https://index.example/whl/cpu", "https://index.example/whl/cpu"),
    ],
)
def test_an_index_is_an_address_or_the_command_that_holds_it(typed, address):
    assert torch_build.index_address(typed) == address


def test_pips_progress_becomes_a_line_each_few_percent():
    lines = pip_output.PipLines()
    assert (
        lines.read("  Downloading torch-2.13.0-cp311-cp311-manylinux.whl (200.0 MB)")
        == "Downloading torch-2.13.0 (200.0 MB)"
    )
    shown = [lines.read(f"Progress {mb * 10**6} of {200 * 10**6}") for mb in range(201)]
    shown = [line for line in shown if line]
    assert shown[0] == "Downloading torch-2.13.0: 5 % of 200 MB" and len(shown) == 20
    assert lines.read("Requirement already satisfied: pip") == ""


@pytest.mark.parametrize(
    ("output", "what", "mend"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full", "install"),
        ("Retrying after NewConnectionError('getaddrinfo failed')\nERROR: No matching distribution found for torch",
         "cannot be reached", "install"),
        ("SSLError(certificate verify failed)", "certificate", "install"),
        ("PermissionError: [WinError 5] Access is denied", "cannot be written", "install"),
        ("OSError: [WinError 206] The filename or extension is too long", "too long for Windows", "install"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no torch==2.13.0 for Python 3.15", "settings"),
        ("Traceback\nERROR: something new", "something new", "log"),
        ("", "failed", "log"),
    ],
)  # fmt: skip
def test_pips_faults_are_told_in_plain_words(output, what, mend):
    error = pip_output.pip_fault(output, "log", "3.15")
    assert what in error.what and error.mend == mend
