"""The recipe's section `training`: the joint loss and how it is minimised."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trawl.sections import Section, Seed, Share


class Training(Section):
    """The joint loss L = L_rec + w_user L_uu + w_item L_ii (T eq. 3) and how it is minimised."""

    batch_size: Annotated[int, Field(ge=1)] = 2048  # samples of a step, over all workers
    epochs: Annotated[int, Field(ge=1)] = 3  # at most; the best by validation AUC is kept
    patience: Annotated[int, Field(ge=1)] = 2  # epochs without a better validation AUC before the stop
    lr: Annotated[float, Field(gt=0)] = 8e-3  # highest learning rate; it falls linearly after the warm-up
    adapter_lr: Annotated[float, Field(gt=0)] = 1.0  # factor on lr for the adapter's parameters
    warmup: Share = 0.1  # share of the steps
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # of AdamW
    w_user: Annotated[float, Field(ge=0)] = 0.0  # weight of the contrastive loss on users with an adapter (w1)
    w_item: Annotated[float, Field(ge=0)] = 0.0  # the same on items (w2)
    temperature: Annotated[float, Field(gt=0)] = 0.15  # of the contrastive loss
    reduction: Literal["mean", "sum"] = "mean"
    anchors: Annotated[int, Field(ge=2)] = 256  # most anchors of the contrastive loss per side and step
    positives: Annotated[int, Field(ge=1)] = 1  # drawn among the top so many partners
    positive_sampling: Literal["uniform", "score"] = "uniform"  # score: in proportion to the SWING score
    fact_positives: tuple[str, ...] = ()  # facts of which a shared value makes one more positive, as ["director"]
    fact_cap: Annotated[int, Field(ge=2)] = 200  # values that more items have say too little and are left out
    negatives: Literal["batch", "low_swing"] = "batch"  # low_swing: drawn among those that are no SWING partners (K)
    low_negatives: Annotated[int, Field(ge=1)] = 32  # low_swing: of each anchor
    temperature_learned: bool = False  # within the bounds, from `temperature` on
    temperature_bounds: tuple[float, float] = (0.02, 0.5)  # temperature_learned: lowest and highest
    weights_learned: bool = False  # of uu and ii, from w_user and w_item on: see model/scales.py
    seed: Seed = 0  # of initialisation, order of the samples and draws
    # of parameters and arithmetic; bfloat16: float32 parameters, arithmetic of the training steps in bfloat16
    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    compile: bool = False  # torch.compile of backbone and adapters: faster after a minute or two, last digits differ

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        low, high = self.temperature_bounds
        if self.temperature_learned and not 0 < low < self.temperature < high:
            raise ValueError(
                f"training.temperature_bounds: a learned temperature begins between its bounds, and "
                f"{self.temperature:g} is not between {low:g} and {high:g}"
            )
        return self
