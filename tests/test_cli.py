from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rapo_lightning.cli import main
from rapo_lightning.commands import COMMANDS
from tests.helpers import ROOT, run_cli, tiny_recipe


def fails(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("rapo-lightning: ")
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["colect"], "Got 'colect'"),
        (["finetune"], "needs a recipe"),
        (["collect", "nothing.yaml"], "Got 'nothing.yaml'"),
        (["collect", "lab", "--stage2.rouds", "3"], "--stage2.rouds"),
        (["collect", "lab", "--stage2.rounds", "many"], "stage2.rounds"),
        (["collect", "lab", "--stage2.rounds", "0"], "Got rounds=0"),
        (["collect", "lab", "--prompts", "none.txt"], "Got 'none.txt'"),
        (["collect", "lab", "--video_model.init_args.pipeline", "Nope", "--limit", "1"], "Got 'Nope'"),
        (["collect", "lab", "--video_model.init_args.batch", "1"], "batch"),
        (
            ["finetune", "lab-rewriter", "--language_model.init_args.checkpoint", "runs/none", "--pairs", "PAIRS"],
            "Got 'runs/none'",
        ),
        (["collect", "lab", "--stage2.verifiers.0.init_args.workers", "2"], "not items of a list"),
        (["evaluate", "lab", "--prompts", "none.txt"], "`evaluation.prompts`"),
        (["refine", "lab"], "one prompt or `--input FILE`"),
        (["report", "runs/none"], "needs a run folder"),
        (["ckpt", "frobnicate"], "frobnicate"),
        (["ckpt", "fetch", "unknown"], "Got 'unknown'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PAIRS").write_text("prompt,completion\na,b\n")
    assert message in fails(arguments, 2, capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds a list"),
        ("name: [", "must be YAML"),
        ("nmae: x\n", "nmae"),
        ("stage3: {lora: {rank: 4}}\n", "rank"),
    ],
)
def test_bad_recipes_are_named(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    assert message in fails(["validate", str(path)], 2, capsys)


def test_validate_reports_all_faults_at_once(
    tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_recipe(
        tmp_path, language_model, prompts="none.txt", evaluation__prompts="none.csv",
        language_model__init_args={"checkpoint": "nowhere", "speed": 1},
    )  # fmt: skip
    error = fails(["validate", str(path)], 2, capsys)
    for part in ("4 faults", "none.txt", "none.csv", "nowhere", "speed"):
        assert part in error


def test_folder_that_cannot_be_written_is_exit_code_one(
    tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    path = tiny_recipe(tmp_path, language_model)
    assert "Choose another `--out`" in fails(["collect", str(path), "--out", str(tmp_path / "file/run")], 1, capsys)


def test_component_outside_the_allowlist_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("embedder: {class_path: subprocess.Popen, init_args: {args: 'touch x'}}\n")
    assert "--allow_package subprocess" in fails(["validate", str(path)], 2, capsys)


def test_print_config_shows_overrides_and_loads_nothing() -> None:
    code = (
        "import sys\nfrom rapo_lightning.cli import main\n"
        "try:\n    main(['collect', 'lab', '--stage2.rounds', '3', '--print_config'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    shown = yaml.safe_load(result.stdout)
    assert shown["stage2"]["rounds"] == 3
    assert shown["video_model"]["init_args"]["fps"] == 8.0


def test_help_explains_fields() -> None:
    result = run_cli("collect", "--help")
    assert result.returncode == 0
    assert "--stage2.rounds" in result.stdout
    assert "Videos per prompt" in result.stdout


def test_usage_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert main([]) == 2
    assert main(["--version"]) == 0


def test_errors_of_a_process_have_no_traceback() -> None:
    result = run_cli("collect", "lab", "--prompts", "/nowhere.txt")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_ckpt_commands_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ckpt", "list"]) == 0
    assert "lab/video_model" in capsys.readouterr().out
    assert main(["ckpt", "verify", "lab/video_model"]) == 0
    assert "whole" in capsys.readouterr().out


def test_reading_a_recipe_imports_nothing_it_names(tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("embedder: {class_path: trap.X, init_args: {}}\n")
    result = run_cli("validate", str(recipe), "--embedder.init_args.a", "1", path=str(tmp_path))
    assert result.returncode == 2
    assert "--allow_package trap" in result.stderr


_EVERY_COMMAND = """
import sys
from rapo_lightning.cli import main
for recipe in sys.argv[1:]:
    for command in (["validate", recipe], ["collect", recipe, "--print_config"], ["collect", recipe]):
        try:
            code = main(command)
        except SystemExit as end:
            code = end.code or 0
        assert code in (0, 2), (command, code)
"""


def test_wherever_a_class_is_named_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("open('sprung', 'w').write('x')\n")
    places = [
        "embedder: {class_path: rapo_lightning.models.SentenceEmbedder, init_args: {checkpoint: {class_path: trap.X}}}",
        "video_model: {class_path: x.Y, init_args: {call: {deep: {class_path: trap.X, init_args: {a: 1}}}}}",
        "trainer: {callbacks: [{class_path: trap.X}]}",
        "trainer: {logger: {class_path: trap.X, init_args: {a: 1}}}",
        "stage2: {verifiers: [{class_path: trap.X}]}",
    ]
    for number, place in enumerate(places):
        (tmp_path / f"{number}.yaml").write_text(place + "\n")
    recipes = [str(tmp_path / f"{number}.yaml") for number in range(len(places))]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    result = subprocess.run(
        [sys.executable, "-c", _EVERY_COMMAND, *recipes], cwd=tmp_path, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "sprung").exists()


def test_a_terminal_that_knows_few_characters_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = run_cli("collect", "lab", "--prompts", "/nowhere-\u00e9\u4e2d.txt")
    assert result.returncode == 2
    assert "\\u4e2d" in result.stderr


def test_a_package_allowed_on_the_command_line_may_be_named_by_graph_extract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("stage1: {extractor: {class_path: my_package.Extractor}}\n")
    (tmp_path / "c.txt").write_text("a caption\n")
    command = ["graph", "extract", str(recipe), "--captions", str(tmp_path / "c.txt"), "--out", str(tmp_path / "o.csv")]
    assert "add `--allow_package my_package`" in fails(command, 2, capsys)
    assert "cannot be imported" in fails([*command, "--allow_package", "my_package"], 2, capsys)
