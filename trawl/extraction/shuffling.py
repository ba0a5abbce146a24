"""Who gets whose text in the null control `shuffled`."""

import numpy as np
import numpy.typing as npt

from trawl.checks import mix


def shuffled(entities: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """A permutation of the entities by hash: the n-th one's text goes to the n-th of the result."""
    keys = mix(entities.astype(np.uint64) ^ mix(np.array([seed]))[0])
    goal: npt.NDArray[np.int64] = entities[np.lexsort((entities, keys))]
    return goal
