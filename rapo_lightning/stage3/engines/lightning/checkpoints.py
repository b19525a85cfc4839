"""The checkpoints of a training: written whole, found again in a folder that was moved, read with one sentence if damaged."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from ....errors import RunError

LAST, BEST = "last.ckpt", "best.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own way renames too, but from the system's folder for temporary files, and a move from there to another
    disk is a copy that a kill cuts off.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Writes a checkpoint whole or not at all; arguments as in Lightning's `CheckpointIO`.

        Raises:
            RunError: If the disk is full or read-only.
        """
        place = Path(path)
        temporary, buffer = place.with_name(place.name + ".tmp"), io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
        except OSError as error:
            raise RunError(
                f"{place} cannot be written: {error.strerror}. Make room or choose another `--out`, and run the same "
                "command again to go on."
            ) from error


class MovableCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that knows its best score again after its folder was moved; Lightning's forgets it then."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state whose paths may lie in the folder that was."""

        def here(path: str) -> str:
            return os.path.join(str(self.dirpath), os.path.basename(path)) if path else path

        moved = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath})


class WithinEpoch(MovableCheckpoint):
    """Saves after every so many steps, but not after an epoch's last, which is saved when its validation is done."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Saves if it is time and the epoch goes on; a batch is a step."""
        if batch_idx + 1 < trainer.num_training_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def checkpoint_callbacks(folder: Path, monitor: tuple[str, str] | None, steps: int) -> list[ModelCheckpoint]:
    """What writes `best.ckpt` and, after it and with its state, `last.ckpt`, and within an epoch `last.ckpt` alone.

    Several callbacks, because `save_last` writes nothing after an epoch that is not the best.

    Args:
        folder: Folder of the checkpoints.
        monitor: Figure to choose by and `min` or `max`; without one the last epoch is the best.
        steps: Optimizer steps between two checkpoints within an epoch; 0 for none there.
    """
    common: dict[str, Any] = {"enable_version_counter": False, "save_on_train_epoch_end": True}
    last = MovableCheckpoint(folder, filename=Path(LAST).stem, **common)
    best = []
    if monitor is not None:
        best = [MovableCheckpoint(folder, filename=Path(BEST).stem, monitor=monitor[0], mode=monitor[1], **common)]
    within = WithinEpoch(
        folder,
        filename=Path(LAST).stem,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
        every_n_train_steps=steps,
    )
    return [*([within] if steps else []), *best, last]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU.

    Raises:
        RunError: If it is damaged or of another kind.
    """
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"epoch", "val_loss", "val_preference", "stopped", "whole", "epoch_sums", "state_dict"} - set(found)
        if missing:
            raise KeyError(f"no {', '.join(sorted(missing))} in it")
    except (RuntimeError, EOFError, OSError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise RunError(
            f"The checkpoint {path} cannot be read ({reason}). Delete {path.parent} and run the same command again to "
            "train from the start."
        ) from error
    return found
