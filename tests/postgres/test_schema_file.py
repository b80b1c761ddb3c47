"""What `holdfast doctor` compares a database with is what the migrations make."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "describe_schema.py"


def test_the_description_of_the_schema_is_what_its_script_writes() -> None:
    checked = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False, timeout=100
    )
    assert checked.returncode == 0, checked.stderr
