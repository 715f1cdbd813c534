"""Loading: profile, dtype, adapters; and one clear line for everything that cannot be loaded."""

import json
import re
import shutil
from dataclasses import dataclass
from typing import ClassVar

import pytest
import tiny
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PaliGemmaForConditionalGeneration

from spatialvlm.errors import UserError
from spatialvlm.models import loading, rollout
from spatialvlm.run_folder import fingerprint

WEIGHTS = "adapter_model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NO_GPU = not torch.cuda.is_available()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny PaliGemma as save_pretrained leaves it."""
    where = tmp_path_factory.mktemp("model")
    model, processor = tiny.paligemma()
    model.save_pretrained(where)
    processor.save_pretrained(where)
    return where


@pytest.fixture
def batch():
    return rollout.encode(tiny.processor(), ["how many red cubes?"], [[tiny.image(0)]])


def arguments(**options):
    return loading.ModelArgs(**({"profile": "embedded"} | options))


def logps(model, batch):
    tokens = torch.tensor([[[5, 6, 1]]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        return rollout.per_token_logps(model, batch, rollout.Completions(tokens, mask, mask.float()))


def test_load_gives_back_what_was_saved(folder, batch, capsys):
    model, processor = loading.load(arguments(model=str(folder)))
    assert capsys.readouterr().out.splitlines()[0].startswith("profile: embedded")
    assert model.dtype == torch.float32 and not model.training
    assert model.config.get_text_config()._attn_implementation == "eager"
    torch.testing.assert_close(logps(model, batch), logps(tiny.paligemma()[0], batch))
    assert type(processor.image_processor).__name__.endswith("Pil")  # also where torchvision is
    again = rollout.encode(processor, ["how many red cubes?"], [[tiny.image(0)]])
    assert torch.equal(again.input_ids, batch.input_ids) and torch.equal(
        again.pixel_values, batch.pixel_values
    )


def test_a_batch_in_bfloat16_takes_no_copies_of_the_output_layer(capsys):
    """Several tokens of each prompt at once, as a loss needs them: 1.2 GB per prompt at the 3B shape."""
    model, _ = loading.load(arguments(dtype="bfloat16"))
    output = model.get_output_embeddings().requires_grad_(False)  # as beside an adapter
    rows = torch.randn(4, 9, output.in_features, dtype=torch.bfloat16)[:, 3:]
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as recorded:
        output(rows)
    largest = max(event.cpu_memory_usage for event in recorded.events())
    assert 0 < largest < output.weight.nbytes


@pytest.mark.parametrize(
    "launched, options, message",
    [
        ({}, {}, "--shard_base shards a model over processes"),
        ({"ACCELERATE_USE_FSDP": "true"}, {}, "launch with runs/accelerate/multi_gpu.yaml"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {"shard_base": False}, "shard with --shard_base"),
    ],
)
def test_sharding_that_cannot_be_is_refused(launched, options, message, folder, monkeypatch):
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=re.escape(message)):
        loading.load(arguments(**{"model": str(folder), "shard_base": True} | options))


def test_profile():
    assert loading.resolve_profile(loading.ModelArgs(profile="paper")) == ("paper", "as requested")
    profile, reason = loading.resolve_profile(loading.ModelArgs())
    assert (profile, "CUDA" in reason) == ("embedded" if NO_GPU else "paper", True)


def test_dtype():
    cpu = torch.device("cpu")
    assert loading.resolve_dtype("auto", cpu) == torch.float32
    assert loading.resolve_dtype("bfloat16", cpu) == torch.bfloat16
    with pytest.raises(UserError, match="--dtype float16"):
        loading.resolve_dtype("float16", cpu)


@pytest.mark.parametrize(("scope", "vision"), [("language", False), ("all", True)])
def test_lora_lands_where_the_scope_says(scope, vision, capsys):
    model, _ = tiny.paligemma()
    model = loading.add_lora(model.to(torch.bfloat16), r=2, alpha=4, target_modules=["q_proj"], scope=scope)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())
    assert any("vision_tower" in name for name in trained) == vision
    assert any("language_model" in name for name in trained)
    parts = loading.trainable_parameters(model)
    assert sum(parts.values()) == sum(p.numel() for p in trained.values())
    assert f"vision {parts['vision']:,}" in capsys.readouterr().out
    assert (parts["vision"] > 0) == vision


def test_adapter_is_saved_and_loaded(folder, batch, tmp_path):
    model = loading.add_lora(loading.load(arguments(model=str(folder)))[0], r=2, alpha=4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    expected = logps(model.eval(), batch)
    for _ in range(2):  # over an older one too
        loading.save_adapter(model, tmp_path / "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    for train in (False, True):
        loaded, _ = loading.load(arguments(model=str(folder), adapter=str(tmp_path / "adapter")), train)
        torch.testing.assert_close(logps(loaded, batch), expected)
        assert any(parameter.requires_grad for parameter in loaded.parameters()) == train
    with loaded.disable_adapter():
        torch.testing.assert_close(logps(loaded, batch), logps(tiny.paligemma()[0], batch))


def test_lora_on_unknown_layers_or_twice_is_refused():
    model, _ = tiny.paligemma()
    with pytest.raises(UserError, match="fc1.*scope 'language' has only .*q_proj"):
        loading.add_lora(model, target_modules=["q_proj", "fc1"])
    model = loading.add_lora(model, r=2)
    with pytest.raises(ValueError, match="already"):
        loading.add_lora(model)


def copied(folder, where, without=(), **config):
    """The model's folder again, without some files and with changes to its config.json."""
    for file in folder.iterdir():
        if file.name not in without:
            (where / file.name).write_bytes(file.read_bytes())
    if config:
        changed = json.loads((where / "config.json").read_text()) | config
        (where / "config.json").write_text(json.dumps(changed))
    return str(where)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["config.json"], "no config.json"),
        (["model.safetensors"], "model.safetensors"),
        (["processor_config.json", "preprocessor_config.json"], "processor"),
        (["tokenizer.json"], "tokenizer"),
    ],
)
def test_a_folder_with_a_file_missing(folder, tmp_path, missing, message):
    with pytest.raises(UserError, match=message):
        loading.load(arguments(model=copied(folder, tmp_path, missing)))


def test_pickled_weights_are_not_opened(folder, tmp_path):
    name = copied(folder, tmp_path, ["model.safetensors"])
    torch.save(tiny.paligemma()[0].state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="no file named model.safetensors"):
        loading.load(arguments(model=name))


def test_no_paligemma(folder, tmp_path):
    with pytest.raises(UserError, match="'siglip', not a PaliGemma"):
        loading.load(arguments(model=copied(folder, tmp_path, model_type="siglip")))


def test_damaged_files(folder, tmp_path):
    name = copied(folder, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        loading.load(arguments(model=name))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config"):
        loading.load(arguments(model=name))


@pytest.mark.parametrize("name", ["nowhere", "./no/where", "/no/where", "a/b/c"])
def test_no_such_folder(name):
    with pytest.raises(UserError, match=f"{name}: no such folder"):
        loading.load(arguments(model=name))


@pytest.fixture
def hub_cache(folder, tmp_path, monkeypatch):
    """A hub cache with one commit of owner/tiny, which is the branch `first`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    here = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(folder, here / "snapshots" / COMMIT)
    (here / "refs").mkdir()
    (here / "refs" / "first").write_text(COMMIT)
    return here


@pytest.mark.parametrize("revision", ["first", COMMIT])
def test_a_pinned_revision(revision, hub_cache, batch, tmp_path):
    name = f"owner/tiny@{revision}"
    model, _ = loading.load(arguments(model=name))
    torch.testing.assert_close(logps(model, batch), logps(tiny.paligemma()[0], batch))
    assert loading.weights_name(model) == name and fingerprint(name) == COMMIT
    loading.save_adapter(loading.add_lora(model, r=2), tmp_path / "adapter")
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["revision"]) == ("owner/tiny", revision)
    again, _ = loading.load(arguments(model=str(tmp_path / "adapter")))  # its base, of that revision
    torch.testing.assert_close(logps(again, batch), logps(tiny.paligemma()[0], batch))


def test_a_revision_that_is_not_there(hub_cache):
    with pytest.raises(UserError, match="owner/tiny@second cannot be fetched.*that this revision is there"):
        loading.load(arguments(model="owner/tiny@second"))


def test_a_hub_model_without_access():
    with pytest.raises(
        UserError, match="nobody/no-such-model cannot be fetched.*hf auth login.*--model"
    ) as caught:
        loading.load(arguments(model="nobody/no-such-model"))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def adapter(folder, tmp_path_factory):
    """A LoRA for the tiny model, of 28 weights, that changes its answers."""
    where = tmp_path_factory.mktemp("adapter") / "lora"
    model = loading.add_lora(loading.load(arguments(model=str(folder)))[0], r=2, alpha=4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    loading.save_adapter(model, where)
    return where


def changed_adapter(adapter, where, change=dict, **config) -> str:
    """The adapter again, with `change` made to its weights and other values in adapter_config.json."""
    save_file({k: v.contiguous() for k, v in change(load_file(adapter / WEIGHTS)).items()}, where / WEIGHTS)
    record = json.loads((adapter / "adapter_config.json").read_text()) | config
    (where / "adapter_config.json").write_text(json.dumps(record))
    return str(where)


def renamed(old: str, new: str):
    return lambda weights: {name.replace(old, new): tensor for name, tensor in weights.items()}


LANGUAGE = "base_model.model.model.language_model."
EXTRA = f"{LANGUAGE}layers.7.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (
            renamed(".self_attn.", ".attention."),
            {},
            "16 of its 28 weights have no place in .*, first base_model",
        ),
        (renamed("language_model.", ""), {}, "28 of its 28 weights have no place"),  # of the text model alone
        (renamed("base_model", "module.base_model"), {}, "28 of its 28 weights have no place"),
        (renamed("layers.", "layers.1"), {}, "28 of its 28 weights have no place"),
        (lambda weights: weights | {EXTRA: torch.zeros(2, 32)}, {}, f"1 of its 29 weights .*, first {EXTRA}"),
        (
            lambda weights: dict(list(weights.items())[1:]),
            {},
            "27 weights, 1 more have a place in .* missing",
        ),
        (lambda w: {k: v for k, v in w.items() if "lora_A" in k}, {}, "14 weights, 14 more .* missing"),
        (dict, {"target_modules": ["q_proj"]}, "24 of its 28 weights have no place"),
        (dict, {"target_modules": "all-linear"}, "28 weights, 26 more have a place in .* and are missing"),
        (dict, {"use_dora": True}, "14 more .*, first .*lora_magnitude_vector"),
        (dict, {"modules_to_save": ["lm_head"]}, "it has no weight '.*lm_head.weight'"),
        (dict, {"r": 4}, r"does not fit the model: size mismatch .*\[2, 32\].*\[4, 32\]"),
        (lambda w: {k: v.T for k, v in w.items()}, {}, "does not fit the model: size mismatch"),
        (dict, {"r": 0}, "does not fit the model: `r` should be a positive"),
        (dict, {"r": "2"}, "adapter_config.json has 'r' '2', and it must be a whole number"),
        (dict, {"r": 2.0}, "'r' 2.0, and it must be a whole number"),
        (dict, {"r": True}, "'r' True, and it must be a whole number"),
        (dict, {"lora_alpha": None}, "'lora_alpha' None, and it must be a number"),
        (dict, {"lora_alpha": "4"}, "'lora_alpha' '4', and it must be a number"),
        (dict, {"lora_alpha": float("nan")}, "'lora_alpha' nan, and it must be a number"),
        (dict, {"bias": None}, "adapter_config.json cannot be used"),
        (dict, {"target_modules": ["nothing"]}, "Target modules .'nothing'. not found"),
        (dict, {"target_modules": "(("}, "does not fit the model"),
        (lambda weights: {}, {}, "holds no weights"),
        (lambda w: {k: v * float("nan") for k, v in w.items()}, {}, "its weight .* is not finite"),
        (lambda w: {k: v.to(torch.int8) for k, v in w.items()}, {}, "its weight .* is of int8, not"),
        (lambda w: {k: v > 0 for k, v in w.items()}, {}, "its weight .* is of bool, not"),
        (dict, {"peft_type": "NEWLORA"}, "adapter_config.json cannot be used"),
        (dict, {"peft_type": None}, "adapter_config.json has no 'peft_type'"),
        (dict, {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}, "adds to prompts; give a LoRA"),
        (dict, {"task_type": "SEQ_CLS"}, "is for SEQ_CLS, not for writing answers"),
        (dict, {"task_type": "NONSENSE"}, "adapter_config.json cannot be used"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(folder, adapter, tmp_path, change, config, message):
    name = changed_adapter(adapter, tmp_path, change, **config)
    with pytest.raises(UserError, match=f"--adapter {re.escape(name)}.*{message}") as refused:
        loading.load(arguments(model=str(folder), adapter=name), train_adapter="r" in config)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        dict,
        renamed(f"{LANGUAGE}", "base_model.model.language_model.model."),  # of transformers before 4.52
        renamed(".weight", ".default.weight"),
        renamed("base_model.model.", ""),
        lambda weights: {name: tensor.double() for name, tensor in weights.items()},
    ],
)
def test_other_names_that_peft_knows_are_the_same_adapter(folder, adapter, tmp_path, batch, change, capsys):
    name = changed_adapter(adapter, tmp_path, change, base_model_name_or_path="another/name", new_field=1)
    loaded, _ = loading.load(arguments(model=str(folder), adapter=name))
    expected, _ = loading.load(arguments(model=str(folder), adapter=str(adapter)))
    torch.testing.assert_close(logps(loaded, batch), logps(expected, batch))
    assert not torch.allclose(logps(loaded, batch), logps(tiny.paligemma()[0], batch))
    assert "untrained" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=2, target_modules=r".*language_model.*q_proj", use_dora=True, use_rslora=True),
        LoraConfig(
            r=2, target_modules=r".*language_model.*q_proj", modules_to_save=["multi_modal_projector"]
        ),
        LoraConfig(r=2, target_modules=r".*vision_tower.*q_proj", bias="lora_only"),
        IA3Config(target_modules=r".*language_model.*v_proj", feedforward_modules=[]),
    ],
    ids=["dora", "modules_to_save", "bias", "ia3"],
)
def test_other_adapters_of_peft(folder, tmp_path, batch, config):
    model = get_peft_model(loading.load(arguments(model=str(folder)))[0], config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 4)
    model.save_pretrained(tmp_path)
    loaded, _ = loading.load(arguments(model=str(folder), adapter=str(tmp_path)))
    torch.testing.assert_close(logps(loaded, batch), logps(model.eval(), batch))
    assert not torch.allclose(logps(loaded, batch), logps(tiny.paligemma()[0], batch))


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        (dict, {}, ""),
        (lambda w: {k: v * ("lora_A" in k) for k, v in w.items()}, {}, "untrained (all lora_B are 0)"),
        (lambda w: {k: v * ("lora_B" in k) for k, v in w.items()}, {}, "untrained (all lora_A are 0)"),
        (dict, {"lora_alpha": 0}, "untrained (lora_alpha is 0)"),
        (dict, {"lora_alpha": 0, "alpha_pattern": {"q_proj": 4}}, ""),
    ],
    ids=["trained", "B", "A", "alpha", "alpha of some"],
)
def test_an_untrained_adapter_is_told(folder, adapter, tmp_path, batch, change, config, said, capsys):
    name = changed_adapter(adapter, tmp_path, change, **config)
    loaded, _ = loading.load(arguments(model=str(folder), adapter=name))
    shown = capsys.readouterr().out
    assert (f"{name} is {said}: it changes no answer" if said else "untrained") in shown or not said
    assert ("untrained" in shown) == bool(said)
    assert torch.equal(logps(loaded, batch), logps(tiny.paligemma()[0], batch)) == bool(said)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds nothing"),
        (b"{", "adapter_config.json line 1 is not JSON"),
        (b"[]", "adapter_config.json is no record"),
        (b"null", "adapter_config.json is no record"),
        (b"\xef\xbb\xbf{}", "adapter_config.json is not plain UTF-8; save it as UTF-8 without a byte order"),
        ("{}".encode("utf-16"), "adapter_config.json is not plain UTF-8"),
        (b"{}", "has no 'peft_type'|does not name its model"),
    ],
)
def test_a_damaged_adapter_config_is_named(folder, adapter, tmp_path, content, message):
    name = changed_adapter(adapter, tmp_path)
    (tmp_path / "adapter_config.json").write_bytes(content)
    for options in (
        {"model": str(folder), "adapter": name},
        {"model": name},
    ):  # alone, it stands for its base
        with pytest.raises(UserError, match=message):
            loading.load(arguments(**options))


def test_an_adapter_in_the_place_of_a_model_is_merged_into_its_base(folder, adapter, batch):
    merged, _ = loading.load(arguments(model=str(adapter)))
    assert type(merged) is PaliGemmaForConditionalGeneration
    assert merged.name_or_path == merged.config.name_or_path == str(adapter)
    expected, _ = loading.load(arguments(model=str(folder), adapter=str(adapter)))
    torch.testing.assert_close(logps(merged, batch), logps(expected, batch))
    base, _ = loading.load(arguments(model=str(folder)))
    weights = dict(base.named_parameters())
    assert sum(not torch.equal(weights[name], part) for name, part in merged.named_parameters()) == 14


def test_an_adapter_is_not_merged_into_four_bits(adapter, monkeypatch):
    monkeypatch.setattr(loading, "_four_bits", lambda dtype, device: None)  # as where a GPU is
    with pytest.raises(UserError, match=f"--load_in_4bit: the adapter {re.escape(str(adapter))} cannot"):
        loading.load(arguments(model=str(adapter), load_in_4bit=True))


def test_an_adapter_in_the_place_of_a_model_is_checked_too(folder, adapter, tmp_path):
    name = changed_adapter(adapter, tmp_path, base_model_name_or_path="./gone")
    with pytest.raises(UserError, match="--model ./gone: no such folder"):
        loading.load(arguments(model=name))
    name = changed_adapter(adapter, tmp_path, base_model_name_or_path="nobody/no-such-model")
    with pytest.raises(UserError, match="--model nobody/no-such-model cannot be fetched"):
        loading.load(arguments(model=name))
    base = str(folder.resolve())
    name = changed_adapter(adapter, tmp_path, renamed("language_model.", ""), base_model_name_or_path=base)
    with pytest.raises(UserError, match=f"--model {re.escape(name)}: 28 of its 28 weights have no place"):
        loading.load(arguments(model=name))


def test_what_is_no_adapter_is_named(folder, adapter, tmp_path):
    for name, message in ((tmp_path, "no adapter_config.json there; give the"), (folder, "is a whole model")):
        with pytest.raises(UserError, match=message):
            loading.load(arguments(model=str(folder), adapter=str(name)))
    shutil.copytree(adapter, tmp_path / "run/adapter")
    (tmp_path / "run/config.json").write_text("{}")
    with pytest.raises(UserError, match=f"give {re.escape(str(tmp_path / 'run/adapter'))}"):
        loading.load(arguments(model=str(folder), adapter=str(tmp_path / "run")))
    shutil.rmtree(tmp_path / "run")
    name = changed_adapter(adapter, tmp_path)
    weights = (tmp_path / WEIGHTS).read_bytes()
    for damaged in (weights[:2000], b"", b"version https://git-lfs.github.com/spec/v1\n"):
        (tmp_path / WEIGHTS).write_bytes(damaged)
        with pytest.raises(UserError, match=f"{WEIGHTS} is damaged"):
            loading.load(arguments(model=str(folder), adapter=name))
    (tmp_path / WEIGHTS).unlink()
    shutil.copy(adapter / WEIGHTS, tmp_path / WEIGHTS)
    (tmp_path / "adapter_config.json").rename(tmp_path / "config")
    with pytest.raises(UserError, match="no adapter_config.json there; give the folder that training saved"):
        loading.load(arguments(model=str(folder), adapter=name))
    (tmp_path / "config").rename(tmp_path / "adapter_config.json")
    (tmp_path / WEIGHTS).rename(tmp_path / "adapter_model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match="in several files, which is not read; save them again in one"):
        loading.load(arguments(model=str(folder), adapter=name))
    (tmp_path / "adapter_model-00001-of-00002.safetensors").unlink()
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(UserError, match="pickled weights are not opened"):
        loading.load(arguments(model=str(folder), adapter=name))


def test_the_published_adapter_of_other_names(real_data):
    name = str(real_data / "field_cases/r1-adapter-of-other-names/text_only")
    with pytest.raises(UserError, match="56 of its 56 weights have no place in .*embedded, first base_model"):
        loading.load(loading.ModelArgs(profile="embedded", adapter=name))


@pytest.mark.skipif(not NO_GPU, reason="a CUDA device is here")
def test_four_bits_need_a_gpu(folder):
    with pytest.raises(UserError, match="--load_in_4bit needs a CUDA device"):
        loading.load(arguments(model=str(folder), load_in_4bit=True))


@dataclass
class Twins(loading.ModelArgs):
    BY_PROFILE: ClassVar = {"data": {"paper": "owner/photographs", "embedded": "embedded"}}
    data: str | None = None


def test_what_was_not_given_follows_from_the_profile():
    for profile, data, model in (
        ("paper", "owner/photographs", loading.PUBLISHED),
        ("embedded", "embedded", str(loading.EMBEDDED)),
    ):
        args = Twins(profile=profile)
        assert loading.fill_defaults(args, "data") == profile
        assert (args.data, args.model, loading.model_name(args)) == (data, None, model)
    given = Twins(profile="paper", data="rows.jsonl", model="elsewhere")
    loading.fill_defaults(given, "data", "model")
    assert (given.data, loading.model_name(given)) == ("rows.jsonl", "elsewhere")
