"""Refines a file of prompts into a CSV, batch by batch, and goes on where a kill stopped it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from ..data.csv_log import CsvLog
from ..data.prompts import stream_prompts
from ..errors import UserError
from ..models.refiner import Refiner
from .interruption import INTERRUPTION

BATCH = 32
"""Prompts that are refined and written at once (ours): a kill loses at most so many."""
COLUMNS = ("prompt", "refined", "reason", "refiner")


def refine_file(refiner: Refiner, source: str, target: Path, total: int) -> Counter[str]:
    """Writes a row for each prompt of a file, in its order, repeated ones too; never more than a batch is held.

    What the CSV has already is kept and compared. Batches begin where they would in an unbroken run, so that the CSV is the same
    byte for byte however often the run was killed.

    Args:
        refiner: The refiner.
        source: The file of prompts.
        target: The CSV to write or to go on with.
        total: Number of prompts in the file.

    Returns:
        How often each reason stands in the CSV, those of before too.

    Raises:
        UserError: If the CSV is another refiner's or of other prompts, or another run writes to it.
        RunError: If it cannot be written, or the process was asked to end.
    """
    with _locked(target):
        log, identity = CsvLog(target, COLUMNS), refiner.identity()
        reasons = _written(log, source, identity)
        done = reasons.total()
        prompts = islice((prompt.text for prompt in stream_prompts(source, "--input")), done // BATCH * BATCH, None)
        again = done % BATCH
        progress = tqdm(total=total, initial=done, desc="refine", unit="prompt", delay=5)
        with progress, INTERRUPTION.watched():
            while (texts := list(islice(prompts, BATCH))) and len(texts) > again:
                found = refiner.refine(texts)[again:]
                log.append([(item.prompt, item.refined, item.reason, identity) for item in found])
                reasons.update(item.reason for item in found)
                progress.update(len(found))
                again = 0
                INTERRUPTION.check()
    return reasons


def _written(log: CsvLog, source: str, identity: str) -> Counter[str]:
    """Reasons of the rows that are there already.

    Raises:
        UserError: If they are another refiner's, or not of the file's first prompts.
    """
    reasons: Counter[str] = Counter()
    prompts = stream_prompts(source, "--input")
    for number, row in enumerate(log.rows(), start=1):
        if len(row) != len(COLUMNS) or row[3] != identity:
            raise UserError(
                f"{log.path} is to be continued and holds answers of another refiner, or of other settings. Got "
                f"{row[-1] if row else 'an empty line'!r} in row {number} where this one is {identity}; choose another "
                "`--output` or delete the file."
            )
        prompt = next(prompts, None)
        if prompt is None or prompt.text != row[0]:
            raise UserError(
                f"{log.path} is to be continued and must hold the prompts of {source} from its start. Got another one in row "
                f"{number}; choose another `--output`, or bring the file back."
            )
        reasons[row[2]] += 1
    return reasons


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keeps other runs from writing to the same CSV."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{target}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"A CSV is written by one run at a time. Got {target}, which another one is writing to; wait for it or choose "
            "another `--output`."
        ) from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
