"""Compares ways to rank the rounds of a run: `python -m rapo_lightning.lab.scripts.winners recipes/lab.yaml runs/lab`.

Prints the oracle's mean score of each round and of the winners, by plain Average Ranking and by the recipe's `stage2.ranking`,
on the videos that the loop itself made.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ...data.ranking import Ranking, best_round
from ...data.store import Row
from ...data.trajectory import by_prompt, read_rows
from ...evaluation.statistics import bootstrap_interval
from ...recipe.files import load_recipe

SCORE = "score_lab_oracle"


def summary(rounds: list[list[Row]], ranking: Ranking) -> str:
    """The winners' mean score with its interval, and how often round 0 wins.

    Args:
        rounds: The rows of each prompt.
        ranking: How a winner is found.
    """
    winners = [best_round(rows, ranking) for rows in rounds]
    scores = np.array([row[SCORE] for row in winners])
    low, high = bootstrap_interval(scores)
    first = np.mean([row["round"] == 0 for row in winners])
    return f"{scores.mean():.3f} [{low:.3f}, {high:.3f}], round 0 wins {first:.3f}"


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("run", type=Path, help="folder with `trajectories/`")
    args = parser.parse_args(arguments)
    rounds = list(by_prompt(read_rows(args.run / "trajectories")).values())
    print(f"{len(rounds)} prompts")
    for number in range(max(map(len, rounds))):
        scores = [found[number][SCORE] for found in rounds if len(found) > number]
        print(f"round {number}: {np.mean(scores):.3f}")
    print(f"plain Average Ranking: {summary(rounds, Ranking())}")
    print(f"the recipe's ranking: {summary(rounds, load_recipe(args.recipe).stage2.ranking)}")


if __name__ == "__main__":
    main()
