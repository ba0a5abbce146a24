"""Searches with Ray Tune over trawl/experiment: each trial is a cell of the experiment, trained by the pipeline."""
