"""Bash completes the names of commands and their options, by the script that `--install-completion` writes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
eval "$(_KERAS_AE_COMPLETE=source_bash keras-ae)"
function completed {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    $(complete -p keras-ae | sed 's/.*-F \\([^ ]*\\).*/\\1/') keras-ae
    echo "${COMPREPLY[@]}"
}
completed keras-ae sc
completed keras-ae score --al
completed keras-ae fit --precision fl
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on PATH")
def test_bash_completes_commands_options_and_their_values():
    commands = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-c", _SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"},
    )
    assert done.stdout.splitlines() == ["score", "--alpha", "float16"], done.stderr
