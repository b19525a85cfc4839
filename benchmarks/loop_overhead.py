"""Time of a collection over the time of its models: `python benchmarks/loop_overhead.py RUN`.

Counts from the first part of rows on disk to the last, so without starting up and loading. The time of the models is that of
generating, judging and rewriting of the rows in between; optical flow, and verifiers that ask no model, are taken out of it by
their share of the time of all judgements.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet

from rapo_lightning.data.store import Row
from rapo_lightning.data.trajectory import read_rows

WITHOUT_MODEL = ("flow", "temporal_coherence", "motion_smoothness", "word_count", "lab_oracle")
"""What stands among judgements and asks no model."""


def seconds_by_verifier(run: Path) -> dict[str, float]:
    """Seconds of all judgements of a run.

    Args:
        run: The run folder.
    """
    found: dict[str, float] = defaultdict(float)
    for path in sorted((run / "records").glob("judgements.*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            found[record["verifier"]] += record["seconds"]
    return dict(found)


def counted_rows(run: Path) -> tuple[list[Row], float]:
    """The rows of all parts but the first, and the seconds between that and the last.

    Raises:
        ValueError: If there are fewer than two parts.
    """
    parts = sorted((run / "trajectories").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    if len(parts) < 2:
        raise ValueError(
            f"The time between parts needs two of them. Got {len(parts)}; take a smaller `stage2.batch_size`."
        )
    first = {(row["prompt_id"], row["round"]) for row in pyarrow.parquet.read_table(parts[0]).to_pylist()}
    rows = [row for row in read_rows(run / "trajectories") if (row["prompt_id"], row["round"]) not in first]
    return rows, (parts[-1].stat().st_mtime_ns - parts[0].stat().st_mtime_ns) / 1e9


def main() -> None:
    """Prints the ratio and what it is made of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    rows, wall = counted_rows(run)
    judged = seconds_by_verifier(run)
    asked = sum(value for name, value in judged.items() if name not in WITHOUT_MODEL) / sum(judged.values())
    parts = {name: sum(row[f"seconds_{name}"] for row in rows) for name in ("generate", "judge", "rewrite")}
    model = parts["generate"] + parts["rewrite"] + asked * parts["judge"]
    shown = ", ".join(f"{name} {value:.1f} s" for name, value in {**parts, **judged}.items())
    print(f"{len(rows)} rows in {wall:.1f} s; models {model:.1f} s ({shown})")
    print(f"time over the models' {wall / model:.3f}, over all that is recorded {wall / sum(parts.values()):.3f}")


if __name__ == "__main__":
    main()
