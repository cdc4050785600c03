from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cifar_tune.report.event_files import SUCCESS, EventFiles


def test_the_driver_does_not_import_torch_for_tensorboard() -> None:
    code = (
        "import sys; from cifar_tune.report.event_files import EventFiles; EventFiles();"
        " assert 'tensorboardX' in sys.modules; print('torch' in sys.modules)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_appended_events_follow_the_first_record(tmp_path: Path) -> None:
    files, path = EventFiles(), tmp_path / "new" / "events"
    one = files.scalars({"loss": 1.0}, 1, 5.0)
    files.append(path, one)
    files.append(path, one)
    whole = files.whole(one)
    assert path.read_bytes() == whole + whole[-(len(one.SerializeToString()) + 16) :]


def test_a_full_disk_is_an_error_of_the_one_who_writes() -> None:
    files = EventFiles()
    with pytest.raises(OSError, match="No space left"):
        files.append(Path("/dev/full"), files.session_end(SUCCESS, 5.0))
