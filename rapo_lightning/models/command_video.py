"""A text-to-video model that is a program of its own: prompts in by a file, videos out by a folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ..checkpoints import locate
from ..errors import RunError, UserError
from .kept_videos import KeptVideos
from .outside_program import Ending, run_program, without_launcher


class CommandVideoModel:
    """Runs an outside program that makes videos.

    Naming this class in a recipe needs `--allow_command` on the command line: whoever wrote the recipe says what is run.

    Each run has a folder of its own with `prompts.txt` and `seeds.txt`, one a line, and an empty one for the videos. What is whole
    of them is kept, however the run ended, and only the rest is asked for again. Nothing is on this process's device; with
    `residency: swap` the other models leave it to the program.
    """

    outside = True
    """Asked whether it is there when a command starts, before any model loads."""

    def __init__(
        self,
        command: list[str],
        model: str,
        videos: str = "{index}.mp4",
        fps: float = 16.0,
        batch_size: int = 8,
        timeout: float = 3600.0,
        checkpoint: str | None = None,
        working_folder: str | None = None,
        version: str = "",
        device: Literal["own", "all"] = "own",
    ) -> None:
        """Checks the arguments; the program is looked for when the model is loaded.

        Args:
            command: The program and its arguments; no shell reads them. `{prompts}` is the file with the prompts, `{output}` the
                folder for the videos, `{seeds}` the file with the seeds, `{checkpoint}` the checkpoint's folder. With `{seed}`, one
                seed, the program is run for each video by itself, as one that knows a single seed must be.
            model: The model's name, as it stands in the rows.
            videos: Name of a video in the output folder: `{index}` is its prompt's place in the file, from 0, and `*` any text.
            fps: Frames per second of its videos.
            batch_size: Most prompts in a file.
            timeout: Seconds that a run of the program may take, loading included; then it is ended with all its children.
            checkpoint: Name in the checkpoint manifest, a folder, or a hub id.
            working_folder: Where the program is run; None is the working directory.
            version: The program's version, such as its commit. It changes nothing but the identity of the videos, which does not
                see the program's own code.
            device: `own` shows the program the one GPU of this process, `all` every one.

        Raises:
            UserError: If an argument is out of range, or the command takes no prompts, output or seeds.
        """
        if batch_size < 1 or fps <= 0 or timeout <= 0:
            raise UserError(
                "An outside program needs batch_size >= 1, fps > 0 and timeout > 0. "
                f"Got batch_size={batch_size}, fps={fps}, timeout={timeout}."
            )
        _check_command(command, videos, checkpoint)
        self.command, self.name, self.videos, self.fps, self.timeout = list(command), model, videos, fps, timeout
        self._alone = any("{seed}" in word for word in command)
        self.batch_size, self.checkpoint, self.device = batch_size, checkpoint, device
        self.working_folder = Path(working_folder).expanduser() if working_folder else None
        self._kept = KeptVideos([command, model, videos, checkpoint, version])
        self._place = torch.device("cpu")

    def load(self) -> None:
        """Looks whether the program is there.

        Raises:
            UserError: If it or its working folder is not.
        """
        if self.working_folder is not None and not self.working_folder.is_dir():
            raise UserError(
                f"`working_folder` must be the folder that {self.name} is run in. Got {str(self.working_folder)!r}, which is no "
                "folder; put the program there, or correct the path."
            )
        here = self.working_folder or Path()
        if shutil.which(self.command[0]) is None and not os.access(here / self.command[0], os.X_OK):
            raise UserError(
                f"`command` must begin with a program. Got {self.command[0]!r}, which is none here; install it, or correct the "
                "name."
            )

    def to(self, device: torch.device) -> None:
        """Remembers the device for the program; nothing is moved."""
        self.load()
        self._place = device

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """One video per prompt, see `base.VideoModel`.

        Raises:
            RunError: If the program fails, takes too long, or leaves a video out; those that are whole are kept.
        """
        self.load()
        keys = [self._kept.key(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        wanted = dict(zip(keys, zip(prompts, seeds, strict=True), strict=True))
        self._gather(wanted)
        missing = [key for key in wanted if not self._kept.has(key)]
        size = 1 if self._alone else self.batch_size
        for begin in range(0, len(missing), size):
            self._run({key: wanted[key] for key in missing[begin : begin + size]})
        return self._kept.take(keys)

    def _run(self, asked: dict[str, tuple[str, int]]) -> None:
        """Runs the program for some videos."""
        folder = self._kept.folder / f"run-{uuid.uuid4().hex[:12]}"
        output = folder / "videos"
        output.mkdir(parents=True)
        _write_lines(folder / "prompts.txt", [prompt for prompt, _ in asked.values()])
        _write_lines(folder / "seeds.txt", [str(seed) for _, seed in asked.values()])
        (folder / "keys.json").write_text(json.dumps(list(asked)), encoding="utf-8")
        # Held while this process lives: a run whose process is gone is gathered by the next.
        with FileLock(folder / "lock"):
            try:
                ending = run_program(
                    self._arguments(folder.resolve(), asked), self.working_folder, self._environment(), self.timeout,
                    folder / "log.txt",
                )  # fmt: skip
            except OSError as error:
                raise RunError(
                    f"The program of {self.name} must start. Got {error.strerror or error}: {shlex.join(self.command)[:200]}; "
                    "correct `command`."
                ) from error
            log = self._kept.folder / "log.txt"
            os.replace(folder / "log.txt", log)
            faults = self._put(folder, asked)
        shutil.rmtree(folder, ignore_errors=True)
        self._check(ending, faults, asked, log)
        log.unlink(missing_ok=True)

    def _arguments(self, folder: Path, asked: dict[str, tuple[str, int]]) -> list[str]:
        """The command with its placeholders filled in; other braces stay as they are."""
        values = {
            "{prompts}": str(folder / "prompts.txt"), "{output}": str(folder / "videos"), "{seeds}": str(folder / "seeds.txt"),
            "{seed}": str(next(iter(asked.values()))[1]),
            "{checkpoint}": str(Path(locate(self.checkpoint)).resolve()) if self.checkpoint else "",
        }  # fmt: skip
        words = []
        for word in self.command:
            for name, value in values.items():
                word = word.replace(name, value)
            words.append(word)
        return words

    def _environment(self) -> dict[str, str]:
        environment = without_launcher(os.environ)
        if self.device == "own" and self._place.type == "cuda":
            index, seen = self._place.index or 0, environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
            environment["CUDA_VISIBLE_DEVICES"] = seen[index].strip() if len(seen) > index and seen[0] else str(index)
        return environment

    def _put(self, folder: Path, wanted: Any) -> dict[str, str]:
        """Keeps the whole videos of a run; what is wrong with the others, by key."""
        faults = {}
        for index, key in enumerate(json.loads((folder / "keys.json").read_text(encoding="utf-8"))):
            if key not in wanted:
                continue
            pattern = "*".join(escape(part) for part in self.videos.replace("{index}", str(index)).split("*"))
            found = sorted(path for path in (folder / "videos").glob(pattern) if path.is_file())
            if len(found) == 1:
                fault = self._kept.put(key, found[0])
                faults[key] = f"{found[0].name}, which is no whole video: {fault}" if fault else ""
            else:
                name = self.videos.replace("{index}", str(index))
                faults[key] = f"{len(found)} files called {name!r}"
        return {key: fault for key, fault in faults.items() if fault}

    def _gather(self, wanted: Any) -> None:
        """Keeps what runs have left whose process was killed."""
        for folder in sorted(self._kept.folder.glob("run-*")):
            with suppress(Timeout, OSError, ValueError), FileLock(folder / "lock", timeout=0):
                self._put(folder, json.loads((folder / "keys.json").read_text(encoding="utf-8")))
                shutil.rmtree(folder, ignore_errors=True)

    def _check(self, ending: Ending, faults: dict[str, str], asked: dict[str, tuple[str, int]], log: Path) -> None:
        """Raises RunError unless all went well."""
        count = f"{len(asked) - len(faults)} of {len(asked)} videos"
        said = f" ({ending.last_line.rstrip('.')})" if ending.last_line else ""
        again = "run the same command again: what is whole is not made again"
        if ending.code is None:
            raise RunError(
                f"The program of {self.name} must end within `timeout`, {self.timeout:g} s. Got {count} by then{said}; its output "
                f"is in {log}. Raise `timeout` or mend the program, and {again}."
            )
        if ending.code:
            raise RunError(
                f"The program of {self.name} must end with the exit code 0. Got {ending.code} and {count}{said}; its output is in "
                f"{log}. Mend it, and {again}."
            )
        if faults:
            key, fault = next(iter(faults.items()))
            raise RunError(
                f"The program of {self.name} must write a video of each prompt. Got {count}, and for {asked[key][0][:60]!r} {fault}; "
                f"its output is in {log}. Correct `videos` or the program, and {again}."
            )


def _check_command(command: Sequence[str], videos: str, checkpoint: str | None) -> None:
    """Raises UserError unless a command takes all that decides its videos."""
    text = " ".join(command)
    wanted = [name for name in ("{prompts}", "{output}") if name not in text]
    wanted += [] if "{seed}" in text or "{seeds}" in text else ["{seed} or {seeds}"]
    wanted += ["{checkpoint}"] if checkpoint and "{checkpoint}" not in text else []
    if not command or not command[0].strip() or wanted:
        raise UserError(
            "`command` must be a program and its arguments with {prompts}, {output} and {seed} or {seeds} in them, and "
            f"{{checkpoint}} where one is named. Got one without {', '.join(wanted) or 'a program'}; a video depends on them, so put "
            "them in."
        )
    if "{checkpoint}" in text and not checkpoint:
        raise UserError("`command` has {checkpoint} in it. Got no `checkpoint`; name one, or write its path.")
    if "{index}" not in videos or "/" in videos:
        raise UserError(
            f"`videos` must be a file's name with {{index}} in it, such as '{{index}}.mp4'. Got {videos!r}; correct it."
        )


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    """A text a line; line breaks within one become spaces."""
    path.write_text("".join(f"{' '.join(line.split())}\n" for line in lines), encoding="utf-8")
