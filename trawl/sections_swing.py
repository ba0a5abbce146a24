"""The recipe's section `swing`: which formula mines positives, from which interactions."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trawl.sections import Section


class Swing(Section):
    """Behaviour -> positives of users and items."""

    normalize: Literal["none", "cosine", "degree"] = "cosine"
    interactions: Literal["liked", "all"] = "liked"
    alpha: Annotated[float, Field(ge=0)] = 1.0
    diagonal: bool = True  # T eq. 1 as printed includes i = j
    top_k: Annotated[int, Field(ge=1)] = 10
    node_weight: Literal["none", "sqrt", "power"] = "none"  # of a feature with n anchors: 1, n^-1/2, (a + n)^-b
    node_a: Annotated[float, Field(ge=0)] = 15.0  # power
    node_b: float = 0.3  # power
    inverted: bool = False  # K eq. 2 as printed, which ranks the least similar first: for study only

    @model_validator(mode="after")
    def _inverted_alone(self) -> Self:
        if self.inverted and (self.normalize != "none" or self.node_weight != "none"):
            raise ValueError("swing.inverted = true needs swing.normalize = none and swing.node_weight = none")
        return self
