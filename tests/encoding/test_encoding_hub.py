"""A name on the hub, as it lies in the hub's own cache: no network is needed to test what is done with it."""

import os
import subprocess
import sys

import pytest
from tiny_bert import make_tiny_bert

from trawl.errors import ConfigError
from trawl.weights import identity

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
from trawl.config import Config
from trawl.encoding.encoders import load_encoder
from trawl.weights import identity, located
print(identity("encoding.model", "someone/tiny"), identity("encoding.model", "someone/tiny", "main"))
print(*located("encoding.model", "someone/tiny"))
cfg = Config().override("encoding.encoder=transformer", "encoding.model=someone/tiny", "encoding.chunk_tokens=12")
print(load_encoder(cfg).encode(["a quiet harbour"]).shape)
try:
    load_encoder(cfg.override("encoding.chunk_tokens=13"))
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(
    "away", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}], ids=("told", "found")
)
def test_a_name_on_the_hub_is_its_commit_and_is_read_from_the_cache_when_the_hub_is_away(tmp_path, away):
    cached = tmp_path / "hub" / "models--someone--tiny"
    folder = cached / "snapshots" / COMMIT
    make_tiny_bert(folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"} | away
    known = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=known | offline, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"someone/tiny@{COMMIT} someone/tiny@{COMMIT}"
    assert lines[1] == f"someone/tiny {COMMIT}"
    assert lines[2] == "(1, 32)"
    assert "takes 12 tokens at once" in lines[3]


def test_a_name_that_is_nowhere_is_one_line(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"nobody/nothing.*not to be had from the hub \(ConnectError"):
        identity("encoding.model", "nobody/nothing")
