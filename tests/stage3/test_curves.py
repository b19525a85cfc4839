from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from rapo_lightning.data.csv_log import csv_text
from rapo_lightning.stage3.curves import write_curves

LOSSES = """epoch,lr-AdamW,step,train_loss_epoch,train_loss_step,val_loss,val_preference_accuracy
,0.001,0,,,,
0,,0,,2.0,,
0,,1,,1.9,,
0,,1,1.95,,1.8,0.6
1,,2,,1.5,,
1,,3,1.5,,1.6,0.7
2,,5,1.2,,1.7,0.65
"""


def height(path: Path) -> int:
    with Image.open(path) as image:
        image.load()
        return image.height


def test_a_panel_for_each_further_column(tmp_path: Path) -> None:
    write_curves(tmp_path, LOSSES, 2)
    with_accuracy = height(tmp_path / "curves.png")
    rows = [row[:-1] for row in csv.reader(io.StringIO(LOSSES))]
    write_curves(tmp_path, csv_text(rows), 2)
    assert height(tmp_path / "curves.png") < with_accuracy
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize("metrics", ["", "epoch,step,lr-AdamW\n,1,0.1\n"])
def test_without_losses_there_is_no_picture(metrics: str, tmp_path: Path) -> None:
    write_curves(tmp_path, metrics, 1)
    assert not list(tmp_path.iterdir())


def test_a_training_leaves_its_curves_beside_its_metrics(trained: Path) -> None:
    assert height(trained / "curves.png") > 100
