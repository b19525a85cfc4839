from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rapo_lightning.lab.degenerate import DEGENERATE
from rapo_lightning.lab.scripts import pictures
from rapo_lightning.lab.scripts.pictures import VALUES, nearest_scene
from tests.helpers import ROOT


@pytest.mark.parametrize("attribute", sorted(VALUES))
def test_every_value_is_shown_by_a_held_out_scene(attribute: str) -> None:
    for value in VALUES[attribute]:
        scene = nearest_scene(attribute, value)
        assert scene.split == "heldout"
        assert scene.attributes[attribute] == value


def test_sizes_are_shown_by_scenes_that_are_the_same_otherwise() -> None:
    others = [{**nearest_scene("size", value).attributes, "size": ""} for value in VALUES["size"]]
    assert others[0] == others[1] == others[2]


def test_pictures_are_drawn(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    pictures.main(["--out", str(tmp_path), "--pictures", "size", "degenerate", "--steps", "1"])
    shipped = ROOT / "docs/lab"
    for name in ("size", "degenerate"):
        drawn = Image.open(tmp_path / f"{name}.png")
        assert drawn.size == Image.open(shipped / f"{name}.png").size
        assert (tmp_path / f"{name}.png").stat().st_size < 150_000
    drawn, page = (
        np.asarray(Image.open(folder / "size.png").convert("RGB")).astype(int) for folder in (tmp_path, shipped)
    )
    middle = pictures.LABEL + (page.shape[1] - pictures.LABEL) // 2
    different = np.abs(drawn - page).max(-1) > 48
    # The rendered clips are those of the page; one step makes other videos than twenty.
    assert different[:, pictures.LABEL : middle - 16].mean() < 0.001
    assert different[:, middle + 16 :].mean() > 0.01
    assert f"{1 + len(DEGENERATE)} rows" in capsys.readouterr().out


def test_shipped_pictures_are_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in (ROOT / "docs/lab").glob("*.png")}
    assert set(sizes) == set(pictures.BASES)
    assert max(sizes.values()) < 150_000
