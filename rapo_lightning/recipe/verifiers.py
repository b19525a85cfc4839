"""Names of a recipe's verifiers, and the fields that refer to them."""

from __future__ import annotations

from ..errors import UserError
from .components import build, load_class
from .pairs import build_filters
from .schema import Recipe


def verifier_names(recipe: Recipe) -> list[str]:
    """Names of the loop's verifiers, those of their score columns.

    Raises:
        UserError: If a verifier is not usable.
    """
    names: list[str] = []
    for index, component in enumerate(recipe.stage2.verifiers):
        field = f"stage2.verifiers[{index}]"
        name = getattr(load_class(component, field), "name", None)
        names.append(name if isinstance(name, str) else build(component, field).name)
    return names


def check_verifier_names(recipe: Recipe) -> None:
    """Checks that floors, weights, gates and ceilings are of verifiers that the recipe has.

    Raises:
        UserError: If a name in `stage3.pairs`, `stage2.ranking` or `stage2.stop` is none of the verifiers' names.
    """
    ranking = recipe.stage2.ranking
    filters = build_filters(recipe.stage3)
    fields = {
        **{f"stage3.pairs[{place}]": list(item.verifiers) for place, item in enumerate(filters)},
        "stage2.ranking.weights": list(ranking.weights),
        "stage2.ranking.gates": list(ranking.gates),
        "stage2.stop.ceiling": list(recipe.stage2.stop.ceiling),
    }
    if not any(fields.values()):
        return
    names = verifier_names(recipe)
    for field, given in fields.items():
        unknown = [name for name in given if name not in names]
        if unknown:
            raise UserError(
                f"`{field}` must name verifiers of the recipe ({', '.join(names) or 'it has none'}). Got "
                f"{', '.join(unknown)}; correct the name, or take it out."
            )
