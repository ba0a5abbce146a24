"""The recipe's section `swing`: which formula mines positives, from which interactions."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trawl.sections import Section


def _cap(value: Any) -> Any:
    if value in ("auto", "exact") or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"auto, exact, or a number of 1 and above (got {value!r})")


Cap = Annotated[int | str, BeforeValidator(_cap)]


class Swing(Section):
    """Behaviour -> positives of users and items."""

    normalize: Literal["none", "cosine", "degree"] = "cosine"
    interactions: Literal["liked", "all"] = "liked"
    alpha: Annotated[float, Field(ge=0)] = 1.0  # smooths the overlap of two users or items in the denominator
    diagonal: bool = True  # T eq. 1 as printed includes i = j
    top_k: Annotated[int, Field(ge=1)] = 10  # partners kept of each anchor
    node_weight: Literal["none", "sqrt", "power"] = "none"  # of a feature with n anchors: 1, n^-1/2, (a + n)^-b
    node_a: Annotated[float, Field(ge=0)] = 15.0  # power
    node_b: float = 0.3  # power
    window_days: Annotated[int, Field(ge=0)] = 0  # days that count, up to the newest of the training users; 0: all
    half_life_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # an interaction of that age weighs half
    inverted: bool = False  # KELLMRec eqs. 1 and 2 as printed, which rank the least similar first: for study only
    users_per_item: Cap = "auto"  # of each item's users that user targets walk; auto, exact or a number
    items_per_user: Cap = "auto"  # of each user's items that item targets walk; auto, exact or a number
    target_features: Cap = "auto"  # of a target's own items or users that are walked; auto, exact or a number
    exact_steps: Annotated[float, Field(gt=0)] = 1e10  # auto: exact up to this cost, about a minute or two of a core
    cap_seed: Annotated[int, Field(ge=0)] = 0  # which entries a cap keeps
    leaders: Annotated[int, Field(ge=0)] = 50  # capped: candidates of each target scored on whole rows; 0: none

    @model_validator(mode="after")
    def _inverted_alone(self) -> Self:
        if self.inverted and (self.normalize != "none" or self.node_weight != "none"):
            raise ValueError("swing.inverted = true needs swing.normalize = none and swing.node_weight = none")
        if self.inverted and self.half_life_days:
            raise ValueError("swing.inverted = true needs swing.half_life_days = 0")
        return self
