"""The recipe's section `plan`: what a run is reckoned with before it is paid for."""

from typing import Annotated, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from trawl.sections import NotNegative, Positive, Section, Share


@with_config(ConfigDict(extra="forbid"))
class Throughput(TypedDict):
    """What one GPU was measured to read and to write: tokens per second with full batches."""

    tokens_in: Positive
    tokens_out: Positive
    parameters: NotRequired[Positive]  # billions, of the model that was measured; absent: the recipe's own
    source: NotRequired[str]  # where the figures come from


class Plan(Section):
    """What `trawl plan` reckons with: read by it alone and hashed into nothing."""

    gpu: str = ""  # the GPU to reckon with, by a name that `trawl plan --gpu ?` lists; empty: none
    throughput: dict[str, Throughput] = Field(default={})  # measured figures by the GPU's name, before the data sheet's
    parameters: NotNegative = 0.0  # billions that a token passes through; 0: counted in the model's files
    price_gpu_hour: NotNegative = 0.0  # in any currency; 0: no costs are given
    price_million_in: NotNegative = 0.0  # of tokens read, where an endpoint is paid by them
    price_million_out: NotNegative = 0.0  # of tokens written
    start_seconds: NotNegative = 120.0  # until an engine answers, where it is not measured
    probe_prompts: Annotated[int, Field(ge=8)] = 512  # of each side that --probe asks, vllm at most 8 engine_rows
    sample_users: Annotated[int, Field(ge=20)] = 2000  # whose prompts are made to count tokens
    sample_items: Annotated[int, Field(ge=20)] = 2000  # the same of items
    users_per_day: Share = 0.05  # of all users: those whose prompt a day makes new
    items_per_day: Share = 0.01  # the same of items
    encoder_texts_second: NotNegative = 0.0  # of one encoding actor; 0: as measured by --probe or by the store's runs
    training_samples_second: Positive = 33_000.0  # of one worker; tests/bench/training.py: DIN, T's injection, one core
