from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rapo_lightning.data.records import PHASES, Records
from rapo_lightning.errors import RunError


def test_records_are_found_again_and_the_latest_counts(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.append("generations", [{"key": "a", "seconds": 1.0}, {"key": "b", "seconds": 2.0}])
    records.append("generations", [{"key": "a", "seconds": 3.0}])
    for found in (records, Records(tmp_path)):
        assert found.get("generations", "a") == {"key": "a", "seconds": 3.0}
        assert found.get("generations", "b") == {"key": "b", "seconds": 2.0}
        assert found.get("judgements", "a") is None


@pytest.mark.parametrize("phase", PHASES)
def test_half_a_record_of_any_phase_is_dropped(tmp_path: Path, phase: str) -> None:
    Records(tmp_path).append(phase, [{"key": "whole", "text": "ä\nb"}])  # type: ignore[arg-type]
    path = tmp_path / f"records/{phase}.0.jsonl"
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        records = Records(tmp_path)
        assert records.get(phase, "whole") == {"key": "whole", "text": "ä\nb"}  # type: ignore[arg-type]
        records.append(phase, [{"key": "next"}])  # type: ignore[arg-type]
        assert path.read_bytes() == whole + b'{"key": "next"}\n'


def test_half_a_record_of_another_process_is_not_read_and_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "records/rewrites.1.jsonl"
    Records(tmp_path, 1).append("rewrites", [{"key": "a"}])
    with other.open("ab") as file:
        file.write(b'{"key": "b"')
    records = Records(tmp_path)
    assert records.get("rewrites", "a") == {"key": "a"}
    assert records.get("rewrites", "b") is None
    with other.open("ab") as file:
        file.write(b"}\n")
    records.refresh()
    assert records.get("rewrites", "b") == {"key": "b"}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    Records(tmp_path).append("judgements", [{"key": "a"}])
    path = tmp_path / "records/judgements.0.jsonl"
    path.write_bytes(b"garbage\n" + path.read_bytes())
    with pytest.raises(RunError, match=r"judgements.0.jsonl is no record. Got b'garbage'; delete that line"):
        Records(tmp_path)


def test_a_full_disk_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path)
    records.append("judgements", [{"key": "a"}])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        records.append("judgements", [{"key": "b"}])
    monkeypatch.undo()
    assert (tmp_path / "records/judgements.0.jsonl").read_bytes() == b'{"key": "a"}\n'
    assert records.get("judgements", "b") is None
