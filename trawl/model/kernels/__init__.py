"""The compiled parts of a training step on a CPU: loops over a batch's samples that make no tensor in between.

Plain arrays in, plain arrays out; `trawl.model.fused` gives them to torch. Compiled for the types that a function is
first called with (a second or so each), and read from a folder by later processes.
"""
