"""The recipe's section `swing`: which formula mines positives, from which interactions."""

from typing import Annotated, Literal

from pydantic import Field

from trawl.sections import Section


class Swing(Section):
    """Behaviour -> positives of users and items."""

    normalize: Literal["none", "cosine"] = "cosine"
    interactions: Literal["liked", "all"] = "liked"
    alpha: Annotated[float, Field(gt=0)] = 1.0
    diagonal: bool = True  # T eq. 1 as printed includes i = j
    top_k: Annotated[int, Field(ge=1)] = 10
