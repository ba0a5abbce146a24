"""TRAWL: outside knowledge for recommenders, as a chain of tables on Ray.

Importing this package loads neither torch, nor ray, nor vllm, nor transformers: heavy libraries load in the workers.
"""

__version__ = "0.1.0"
