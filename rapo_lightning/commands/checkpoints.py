"""`ckpt list / fetch / verify`."""

from __future__ import annotations

from ..errors import RunError, UserError


def _names(chosen: list[str]) -> list[str]:
    """Checkpoint names; the name or path of a recipe stands for the checkpoints that it names."""
    from ..checkpoints import entries
    from ..recipe.files import load_recipe, recipe_path
    from ..running.pool import checkpoint_names

    found: dict[str, None] = {}
    for name in chosen:
        if name in entries():
            found[name] = None
            continue
        try:
            recipe = load_recipe(recipe_path(name))
        except UserError as error:
            raise UserError(
                f"Name checkpoints or a recipe; known checkpoints are {', '.join(entries())}. Got {name!r}."
            ) from error
        found |= {item: None for item in checkpoint_names(recipe) if item in entries()}
    return list(found) or list(entries())


def list_checkpoints() -> None:
    """List known checkpoints and where they come from."""
    from ..checkpoints import entries, ready_folder

    for entry in entries().values():
        sources = [f"shipped {entry.shipped}"] if entry.shipped else []
        sources += [f"hub {entry.hub['repo']}@{(entry.hub['revision'] or 'latest')[:8]}"] if entry.hub else []
        sources += [f"index {entry.index['wheel']}"] if entry.index else []
        sources += [f"{entry.assembled['delta']} on {entry.assembled['base']}"] if entry.assembled else []
        place = ready_folder(entry) or "not here"
        print(
            f"{entry.name:24} {entry.kind:21} {entry.megabytes:6} MB  {entry.licence:11} {place}  ({', '.join(sources)})"
        )


def fetch(names: list[str], /) -> None:
    """Fetch checkpoints, or those that a recipe names.

    Args:
        names: Checkpoints or recipes.
    """
    from ..checkpoints import ensure, entries, ready_folder

    wanted = _names(names)
    ensure(wanted)
    for name in wanted:
        print(f"{name}: {ready_folder(entries()[name])}")


def verify(names: list[str] | None = None, /) -> None:
    """Compare checkpoints with their checksums.

    Args:
        names: Checkpoints or recipes; default: all that are here.

    Raises:
        RunError: With one line per fault.
    """
    from ..checkpoints import entries, ready_folder
    from ..checkpoints import verify as compare

    found = []
    for name in _names(names or []):
        if not names and ready_folder(entries()[name]) is None:
            print(f"{name}: not here")
            continue
        problems = compare(entries()[name])
        found += problems
        if not problems:
            print(f"{name}: whole")
    if found:
        raise RunError("\n".join(found))
