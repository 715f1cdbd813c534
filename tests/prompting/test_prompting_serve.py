"""All strategies through `transformers serve`, a server of its own on this machine, and through this process.

It serves the embedded model, with a chat template that lays turns out as `local.flatten` does: what it says
is what the local client says, word for word.

    PROMPTING_QUESTIONS=50 pytest -s tests/prompting/test_prompting_serve.py  # of CV-Bench's form, not two
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from spatialvlm.models import loading
from spatialvlm.prompting import exemplars
from spatialvlm.prompting.local import LocalClient
from spatialvlm.prompting.server import Cache, ServerArgs, ServerClient
from spatialvlm.prompting.strategies import STRATEGIES
from spatialvlm.prompting.strategy import Aids
from spatialvlm.tasks.registry import benchmark
from spatialvlm.worlds.clevr import series
from spatialvlm.worlds.clevr.two_views import two_views

TEXT = "{{ turn.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('\\n') }}"
TEMPLATE = (
    "{%- if messages | length == 1 -%}{%- set turn = messages[0] -%}" + TEXT + "{%- else -%}"
    "{%- for turn in messages -%}{{ turn.role | capitalize }}: " + TEXT + "{{ '\\n' }}{%- endfor -%}"
    "Assistant:{%- endif -%}"
)
QUESTIONS = int(os.environ.get("PROMPTING_QUESTIONS", "2"))
NEW_TOKENS = 4 if QUESTIONS <= 2 else 32  # the longest reply; the longest queries leave no room for more
STARTING = 900  # seconds at most, on a very busy machine; 10 otherwise


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(base_url, the model's name there) of the embedded model in a process of its own."""
    folder = tmp_path_factory.mktemp("served") / "embedded"
    shutil.copytree(loading.EMBEDDED, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    command += ["--attn-implementation", "eager", "--dtype", "float32"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = (folder.parent / "log.txt").open("w")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + STARTING
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                told = (folder.parent / "log.txt").read_text()[-2000:]
                assert server.poll() is None and time.monotonic() < end, told
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def test_a_server_says_what_the_local_model_says(served, tmp_path):
    """Every strategy on some questions: replies alike word for word, and the same read out of them."""
    base_url, name = served
    args = ServerArgs(base_url=base_url, concurrency=2, timeout=600)
    asking = ServerClient(args, name, Cache(tmp_path), NEW_TOKENS)
    local = LocalClient(*loading.load(loading.ModelArgs(profile="embedded")), NEW_TOKENS)
    requests, others = 0, []
    for strategy in STRATEGIES.values():
        two = strategy.images == 2
        asked = list(two_views("test", (QUESTIONS + 1) // 2) if two else series.cvbench("test", QUESTIONS))
        shown = exemplars.embedded("cvbench", 1) if strategy.exemplars == "needed" else ()
        aids = Aids(shown, exemplars.depth_maps(None))
        rule = benchmark("sat" if two else "cvbench").rules["strict"]

        def talks(client, strategy=strategy, asked=asked, aids=aids):
            return dict(client.talk((each.id, strategy.converse(each, aids)) for each in asked))

        there, here = talks(asking), talks(local)
        assert there.keys() == here.keys() == {each.id for each in asked}
        for example in asked:
            one, other = there[example.id], here[example.id]
            assert rule.parse(one.outcome.text, example) == rule.parse(other.outcome.text, example)
            said = [[reply.text for reply in talk.replies] for talk in (one, other)]
            if one.outcome != other.outcome or said[0] != said[1]:
                others.append((strategy.name, example.id, *said))
            requests += len(other.replies)
        print(f"{strategy.name}: {len(asked)} questions, read alike")
    assert not others
    facts = asking.facts()
    assert facts["answered"] + facts["from_cache"] == requests and facts["failed_attempts"] == 0
    assert facts["from_cache"] > 0  # strategies share their first queries
