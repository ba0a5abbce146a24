"""The sections of a recipe, together."""

from trawl.sections import (
    Data,
    Encoding,
    Experiment,
    Export,
    Extraction,
    Linking,
    Refresh,
    Resources,
    Retry,
    Search,
    Section,
)
from trawl.sections_facts import Facts
from trawl.sections_http import Http
from trawl.sections_model import Model
from trawl.sections_plan import Plan
from trawl.sections_swing import Swing
from trawl.sections_training import Training


class Sections(Section):
    """What a recipe holds."""

    name: str = "run"  # begins the names of its runs
    data: Data = Data()
    linking: Linking = Linking()
    facts: Facts = Facts()
    extraction: Extraction = Extraction()
    http: Http = Http()
    encoding: Encoding = Encoding()
    swing: Swing = Swing()
    model: Model = Model()
    training: Training = Training()
    export: Export = Export()
    refresh: Refresh = Refresh()
    experiment: Experiment = Experiment()
    search: Search = Search()
    retry: Retry = Retry()
    plan: Plan = Plan()
    resources: Resources = Resources()
