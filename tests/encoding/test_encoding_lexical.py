import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from trawl.config import Config
from trawl.encoding.encoders import ENCODERS, load_encoder
from trawl.encoding.lexical import Lexical
from trawl.errors import ConfigError
from trawl.sections import Encoding

NAMES = ["Kowalewska", "Tarantella", "Oberhausen", "Quillfeather", "Zbigniew", "Marrakech", "Ishiguro", "Penhaligon"]
PROSE = "the film was directed in a small town and tells of a family that returns after many years to an old house"
FILLER = PROSE.split()


def text(rng, *names, words=60):
    """Filler words in random order with the names strewn in."""
    out = list(rng.choice(FILLER, words))
    for name in names:
        out.insert(int(rng.integers(0, len(out))), name)
    return " ".join(out)


def test_texts_that_share_rare_names_are_nearer_than_those_that_do_not():
    rng = np.random.default_rng(0)
    encoder = Lexical(128, 4096)
    pairs = [NAMES[i : i + 2] for i in range(0, 8, 2)]
    first = encoder.encode([text(rng, *p, *p) for p in pairs for _ in range(8)])
    second = encoder.encode([text(rng, *p, *p) for p in pairs for _ in range(8)])
    cosine = first @ second.T
    same = np.kron(np.eye(4), np.ones((8, 8))).astype(bool)
    assert cosine[same].mean() > cosine[~same].mean() + 0.1
    nearest = cosine.argmax(axis=1) // 8
    assert (nearest == np.arange(32) // 8).mean() > 0.9


def test_spelling_variants_are_nearer_than_other_words():
    a, near, far = Lexical(256, 100).encode(
        ["swashbuckling adventures", "swashbuckler adventure", "melancholy violinists"]
    )
    assert a @ near > a @ far + 0.15


def test_stop_words_weigh_little_and_names_more():
    encoder = Lexical(512, 100)
    plain, stopped, other = encoder.encode(["harbour storm", "and the harbour of a storm was", "harbour kitchen"])
    assert plain @ stopped > 0.9 > plain @ other
    named, name, word = encoder.encode(["Rosalind gardening", "Rosalind", "gardening"])
    assert named @ name > named @ word + 0.1


def test_unit_length_or_zero_and_float32():
    vectors = Lexical(48, 10).encode(["one text", "", "...!?", "the of and", "x", "日本語の映画" * 20])
    assert vectors.dtype == np.float32 and vectors.shape == (6, 48)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 0, 0, 1, 1, 1], atol=1e-6)


def test_no_text_gives_no_rows():
    assert Lexical(16, 10).encode([]).shape == (0, 16)


def test_the_batch_and_what_was_read_before_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    texts = [text(rng, *rng.choice(NAMES, 3), words=30 + i) for i in range(300)]
    whole = Lexical(64, 4096).encode(texts)
    used = Lexical(64, 4096)
    used._most = 40  # the cache is emptied again and again
    used.encode(texts[200:])
    turn = rng.permutation(300)
    again = np.concatenate([used.encode([texts[i]]) for i in turn])
    assert np.array_equal(again, whole[turn])


def test_tokens_after_max_tokens_are_not_read():
    encoder = Lexical(64, 8)
    long = "one two three four five six seven eight nine ten"
    assert encoder.count([long]) == [10]
    a, b, c = encoder.encode(
        [long, "one two three four five six seven eight", "one two three four five six seven nine"]
    )
    assert np.array_equal(a, b) and not np.allclose(a, c)


def test_seed_and_dimension_count():
    a, b = (Lexical(64, 100, seed=s).encode(["some quiet harbour"]) for s in (0, 1))
    assert abs(float((a @ b.T)[0, 0])) < 0.6
    assert np.array_equal(a, Lexical(64, 100, seed=0).encode(["some quiet harbour"]))


def test_other_processes_agree_whatever_their_hash_seed():
    code = (
        "import hashlib; from trawl.encoding.lexical import Lexical; "
        "t = ['Zbigniew returns to Oberhausen', 'a café in Marrakech', 'naïve and naive naïve']; "
        "print(hashlib.sha256(Lexical(100, 50, 3).encode(t).tobytes()).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": s},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for s in ("0", "77")
    }
    texts = ["Zbigniew returns to Oberhausen", "a café in Marrakech", "naïve and naive naïve"]
    assert said == {hashlib.sha256(Lexical(100, 50, 3).encode(texts).tobytes()).hexdigest() + "\n"}


def test_encoders_are_found_by_name():
    assert sorted(ENCODERS) == ["lexical", "transformer"]
    assert load_encoder(Config().override("encoding.dimension=24")).dimension == 24
    with pytest.raises(ConfigError, match="choose one of lexical, transformer"):
        load_encoder(Config.model_construct(encoding=Encoding.model_construct(encoder="bert")))
