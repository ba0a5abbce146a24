"""The lines under a plan: what each figure rests on, and what would make it firmer."""

from collections.abc import Mapping
from typing import Any

from trawl.config import Config


def assumptions(tree: Mapping[str, Any], cfg: Config, probe: bool, no_place: str) -> list[str]:
    """One sentence each, the most important first."""
    out = [_made(tree)]
    for side in tree["prompts"]:
        out += _side_lines(side)
    asked = [side for side in tree["prompts"] if side["asked"]]
    if asked and tree["engine"] is None:
        out.append(_no_hours(cfg, asked[0]))
    if no_place:
        out.append(no_place)
    if asked and tree["engine"]:
        out.append(_hours_line(tree["engine"], cfg))
    if probe and any(side["probe"] for side in tree["prompts"]):
        out.append(
            "a probe fills and drains one engine, which a long run does once: with few prompts it shows an engine as "
            "slower than it is (plan.probe_prompts); its answers are thrown away"
        )
    out += _rest(tree, cfg)
    return [line for line in out if line]


def _made(tree: Mapping[str, Any]) -> str:
    names = [row["artifact"] for row in tree["made"]]
    if not names:
        return "made now: nothing, the tables that prompts are read from were published"
    return f"made now and kept, a run takes them from there: {', '.join(names)}"


def _side_lines(side: Mapping[str, Any]) -> list[str]:
    name = f"{side['side']}s"
    if side["published"]:
        return [f"{name}: all answers are published, nobody is asked"]
    out = []
    if side["sampled"] < side["entities"]:
        what = f"{name}: from {side['sampled']:,} of {side['entities']:,}, drawn by hash"
        out.append(f"{what}; tokens in +- {side['error']:.1%} (95 %)" if side["error"] else what)
    if side["asked"]:
        out.append(f"{name}: {side['each_out']:.0f} tokens an answer, {side['tokens_out_from']}")
    if side["too_long"] or side["skipped"]:
        out.append(f"{name}: not sent are {side['too_long']:,} too long for any text, {side['skipped']:,} skipped")
    if side["merges"]:
        out.append(f"{name}: of {side['merges']:,.0f} the texts are read in chunks; one more prompt each merges them")
    if side["again"] and side["sampled"] < side["entities"]:
        out.append(f"{name}: equal prompts were counted within the sample; there may be more of them")
    return out


def _no_hours(cfg: Config, side: Mapping[str, Any]) -> str:
    if side["engine"] != "vllm":
        return "hours: not known; --probe measures them on this cluster"
    if cfg.plan.gpu:
        return "hours: the model's size is not known, its files are not here; set plan.parameters (billions)"
    return "hours: name a GPU (--gpu NAME), or measure on this cluster (--probe)"


def _hours_line(engine: Mapping[str, Any], cfg: Config) -> str:
    line = f"hours: {engine['source']}; engines side by side: {engine['engines']}"
    if engine["gpu_hours"] and not cfg.plan.price_gpu_hour:
        return f"{line}; they cost nothing here: plan.price_gpu_hour is not set"
    return line


def _rest(tree: Mapping[str, Any], cfg: Config) -> list[str]:
    out = []
    if tree["encoding"]["tables"]:
        unknown = tree["encoding"]["seconds"] is None
        hint = "; --probe measures it, or set plan.encoder_texts_second" if unknown else ""
        out.append(f"encoding: {tree['encoding']['source']}; an answer to each prompt is encoded{hint}")
    if tree["training"] and tree["training"]["tables"]:
        out.append(f"training: {tree['training']['source']}; all {cfg.training.epochs} epochs, without evaluation")
    if tree["prompts"]:
        out.append(
            f"refresh: {cfg.plan.items_per_day:.1%} of the items and {cfg.plan.users_per_day:.1%} of the users are "
            "asked anew each day (plan.items_per_day, plan.users_per_day)"
        )
    return out
