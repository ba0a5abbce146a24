"""The recipe's section `training`: the joint loss and how it is minimised."""

from typing import Annotated, Literal

from pydantic import Field

from trawl.sections import Section, Share


class Training(Section):
    """The joint loss L = L_rec + w_user L_uu + w_item L_ii (T eq. 3) and how it is minimised."""

    batch_size: Annotated[int, Field(ge=1)] = 2048
    epochs: Annotated[int, Field(ge=1)] = 3
    patience: Annotated[int, Field(ge=1)] = 2  # epochs without a better validation AUC before the stop
    lr: Annotated[float, Field(gt=0)] = 8e-3
    adapter_lr: Annotated[float, Field(gt=0)] = 1.0  # factor on lr for the adapter's parameters
    warmup: Share = 0.1  # share of the steps
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    w_user: Annotated[float, Field(ge=0)] = 0.0
    w_item: Annotated[float, Field(ge=0)] = 0.0
    temperature: Annotated[float, Field(gt=0)] = 0.15
    reduction: Literal["mean", "sum"] = "mean"
    anchors: Annotated[int, Field(ge=2)] = 256  # most anchors of the contrastive loss per side and step
    positives: Annotated[int, Field(ge=1)] = 1  # drawn among the top so many partners
    seed: int = 0
    # of parameters and arithmetic; bfloat16: float32 parameters, arithmetic of the training steps in bfloat16
    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    compile: bool = False  # torch.compile of backbone and adapters: faster after a minute or two, last digits differ
