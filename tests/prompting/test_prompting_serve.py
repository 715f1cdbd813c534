"""All strategies through `transformers serve`, a server of its own on this machine, and through this process.

pytestmark = pytest.mark.slow

It serves the embedded model, with a chat template that lays turns out as `local.flatten` does: its replies
are those of the local client, word for word.

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
from spatialvlm.prompting.local import LocalClient
from spatialvlm.prompting.server import Cache, ServerArgs, ServerClient
from spatialvlm.prompting.strategies import STRATEGIES
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
                log_text = (folder.parent / "log.txt").read_text()[-2000:]
                assert server.poll() is None and time.monotonic() < end, log_text
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def test_a_server_replies_as_the_local_model_does(served, embedded, hold, tmp_path):
    """Every strategy on some questions: the same replies word for word, and the same answers parsed."""
    base_url, name = served
    args = ServerArgs(base_url=base_url, concurrency=2, timeout=600)
    remote = ServerClient(args, name, Cache(tmp_path), NEW_TOKENS)
    local = LocalClient(*embedded, NEW_TOKENS)
    requests, others = 0, []
    for strategy in STRATEGIES.values():
        two = strategy.images == 2
        examples = list(two_views("test", (QUESTIONS + 1) // 2) if two else series.cvbench("test", QUESTIONS))
        rule = benchmark("sat" if two else "cvbench").rules["strict"]
        there, here = hold(remote, strategy, examples), hold(local, strategy, examples)
        assert there.keys() == here.keys() == {each.id for each in examples}
        for example in examples:
            one, other = there[example.id], here[example.id]
            assert rule.parse(one.outcome.text, example) == rule.parse(other.outcome.text, example)
            texts = [[reply.text for reply in dialogue.replies] for dialogue in (one, other)]
            if one.outcome != other.outcome or texts[0] != texts[1]:
                others.append((strategy.name, example.id, *texts))
            requests += len(other.replies)
        print(f"{strategy.name}: {len(examples)} questions, the same replies")
    assert not others
    facts = remote.facts()
    assert facts["answered"] + facts["from_cache"] == requests and facts["failed_attempts"] == 0
    assert facts["from_cache"] > 0  # strategies share their first queries
