"""A converted CodeGen model answers as it did, and a source that is not whole is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conversion import need_conversion

need_conversion()

import torch
from codecascade_build.checkpoints import shards
from codecascade_build.checkpoints.codegen_gptj import convert
from codecascade_build.checkpoints.shards import read_checkpoint, read_shard
from codecascade_build.errors import BuildError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, CodeGenConfig, CodeGenForCausalLM, GPTJForCausalLM, PreTrainedTokenizerFast

PROMPT = "def fibonacci(n):\n    "
VOCAB = 320


@dataclass(frozen=True)
class Heads:
    """The head layout of a published model, every dimension a sixteenth of its own."""

    name: str
    heads: int
    head_dim: int
    rotary: int


LAYOUTS = (Heads("350M", 16, 4, 2), Heads("2B", 32, 5, 4), Heads("6B", 16, 16, 4), Heads("16B", 24, 16, 4))
FORMS = ("bin", "sharded bin", "safetensors", "sharded safetensors")


def random_codegen(layout: Heads, layers: int = 2, seed: int = 7) -> CodeGenForCausalLM:
    torch.manual_seed(seed)
    config = CodeGenConfig(
        vocab_size=VOCAB,
        n_positions=64,
        n_ctx=64,
        n_embd=layout.heads * layout.head_dim,
        n_layer=layers,
        n_head=layout.heads,
        rotary_dim=layout.rotary,
        initializer_range=0.1,
        bos_token_id=1,
        eos_token_id=256,
    )
    model = CodeGenForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # biases and norms start as zeros and ones, which hides mistakes
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


def save(model: CodeGenForCausalLM, folder: Path, form: str) -> Path:
    """Write a checkpoint as the published ones are: a byte-level tokenizer, and in .bin files the masks of old versions."""
    limit = "20KB" if form.startswith("sharded") else "5GB"
    model.save_pretrained(folder, safe_serialization="safetensors" in form, max_shard_size=limit)
    if form == "bin":
        state = torch.load(folder / "pytorch_model.bin")
        for layer in range(model.config.n_layer):
            state[f"transformer.h.{layer}.attn.causal_mask"] = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
            state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9)
        torch.save(state, folder / "pytorch_model.bin")
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    return folder


def greedy_text(model: CodeGenForCausalLM | GPTJForCausalLM, tokenizer_folder: Path) -> str:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    prompt = tokenizer(PROMPT, return_tensors="pt")
    # A random model says one thing for ever; that no token may come twice makes every step a choice.
    tokens = model.generate(**prompt, max_new_tokens=32, do_sample=False, no_repeat_ngram_size=1, pad_token_id=0)
    return str(tokenizer.decode(tokens[0]))


def largest_difference(first: torch.nn.Module, second: torch.nn.Module) -> float:
    tokens = torch.randint(0, VOCAB, (3, 40), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return float((first(tokens).logits - second(tokens).logits).abs().max())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_the_converted_model_has_the_same_logits_and_the_same_greedy_text(layout: Heads, tmp_path: Path) -> None:
    codegen = random_codegen(layout)
    source = save(codegen, tmp_path / "codegen", "bin")
    convert(source, tmp_path / "gptj")
    gptj, loading = GPTJForCausalLM.from_pretrained(tmp_path / "gptj", output_loading_info=True)
    assert not any(loading.values()), loading
    assert largest_difference(codegen, gptj.eval()) <= 1e-6
    text = greedy_text(codegen, source)
    assert len(set(text.removeprefix(PROMPT))) > 8
    assert greedy_text(gptj, tmp_path / "gptj") == text


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_checkpoint_gives_the_same_tensors(form: str, tmp_path: Path) -> None:
    codegen = random_codegen(LAYOUTS[0])
    source = save(codegen, tmp_path / "codegen", form)
    assert len(list(source.glob("*index.json"))) == form.startswith("sharded")
    convert(source, tmp_path / "gptj")
    written = load_file(tmp_path / "gptj" / "model.safetensors")
    state = codegen.state_dict()
    assert {name for name in written if "_proj" not in name} == {name for name in state if "_proj" not in name}
    assert all(torch.equal(written[name], state[name]) for name in written if name in state)
    heads = state["transformer.h.1.attn.qkv_proj.weight"].view(4, 3, 4 * 4, 64)
    for place, letter in enumerate("qvk"):
        assert torch.equal(written[f"transformer.h.1.attn.{letter}_proj.weight"].view(4, 16, 64), heads[:, place])


def test_a_large_target_is_split_and_indexed(tmp_path: Path) -> None:
    codegen = random_codegen(LAYOUTS[1])
    convert(save(codegen, tmp_path / "codegen", "bin"), tmp_path / "gptj", shard_bytes=300_000)
    shards = sorted(path.name for path in (tmp_path / "gptj").glob("*.safetensors"))
    assert len(shards) > 5
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    assert all((tmp_path / "gptj" / name).stat().st_size < 420_000 for name in shards)
    index = json.loads((tmp_path / "gptj" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * sum(parameter.numel() for parameter in codegen.parameters())
    assert sorted(set(index["weight_map"].values())) == shards
    for name, shard in index["weight_map"].items():
        assert name in load_file(tmp_path / "gptj" / shard)
    assert largest_difference(codegen, GPTJForCausalLM.from_pretrained(tmp_path / "gptj").eval()) <= 1e-6


def test_the_type_is_kept_or_changed_when_asked_to(tmp_path: Path) -> None:
    codegen = random_codegen(LAYOUTS[0])
    convert(save(codegen, tmp_path / "float32", "bin"), tmp_path / "to bfloat16", "bfloat16")
    convert(save(codegen.half(), tmp_path / "float16", "sharded bin"), tmp_path / "kept float16")
    source = torch.load(tmp_path / "float32" / "pytorch_model.bin")["lm_head.weight"]
    for folder, dtype in {"to bfloat16": torch.bfloat16, "kept float16": torch.float16}.items():
        weights = load_file(tmp_path / folder / "model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {dtype}
        assert torch.equal(weights["lm_head.weight"], source.to(dtype))
        assert f"torch.{json.loads((tmp_path / folder / 'config.json').read_text())['torch_dtype']}" == str(dtype)


def test_the_config_and_the_tokenizer_come_along(tmp_path: Path) -> None:
    source = save(random_codegen(LAYOUTS[3]), tmp_path / "codegen", "bin")
    convert(source, tmp_path / "gptj")
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("codegen", "gptj"))
    assert after["architectures"] == ["GPTJForCausalLM"]
    assert after["model_type"] == "gptj"
    kept = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "rotary_dim", "n_inner", "layer_norm_epsilon")
    for name in (*kept, "activation_function", "bos_token_id", "eos_token_id"):
        assert after[name] == before[name]
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        assert (tmp_path / "gptj" / name).read_bytes() == (source / name).read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def edit_config(**changes: object) -> Callable[[Path], object]:
    def edit(source: Path) -> None:
        config = json.loads((source / "config.json").read_text()) | changes
        (source / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value != "absent"}))

    return edit


def edit_tensors(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def change(source: Path) -> None:
        tensors = load_file(source / "model.safetensors")
        edit(tensors)
        save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})

    return change


def as_bin(state: object) -> Callable[[Path], object]:
    def change(source: Path) -> None:
        (source / "model.safetensors").unlink()
        torch.save(state, source / "pytorch_model.bin")

    return change


def edit_zip(**changes: bytes) -> Callable[[Path], object]:
    """Other members in a .bin file, by the last part of their names; with none, an archive that torch did not write."""

    def change(source: Path) -> None:
        save(random_codegen(LAYOUTS[0], layers=1), source, "bin")
        (source / "model.safetensors").unlink()
        path = source / "pytorch_model.bin"
        with zipfile.ZipFile(path) as saved:
            members = {name: saved.read(name) for name in saved.namelist()} if changes else {"readme.txt": b""}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, changes.get(f"_{name.rpartition('/')[2]}", data))

    return change


def cut_shard(source: Path) -> None:
    save(random_codegen(LAYOUTS[0], layers=1), source, "sharded bin")
    (source / "model.safetensors").unlink()
    (path,) = source.glob("pytorch_model-00002-of-*.bin")
    os.truncate(path, path.stat().st_size - 100)


class Command:
    """Something that a pickle could run."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch ran",)


REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another model": (edit_config(model_type="gptj"), r"'gptj' model .* 'codegen' with \['CodeGenForCausalLM'\] is needed"),
    "another head": (edit_config(architectures=["CodeGenModel"]), r"\['CodeGenModel'\]; 'codegen' with"),
    "no config": (lambda source: (source / "config.json").unlink(), r"config\.json cannot be read: No such file"),
    "a broken config": (lambda source: (source / "config.json").write_text("{"), r"config\.json is not JSON"),
    "a list for a config": (lambda source: (source / "config.json").write_text("[]"), r"config\.json holds no JSON object"),
    "no rotary_dim": (edit_config(rotary_dim=None), r"config\.json has no rotary_dim"),
    "no n_head": (edit_config(n_head="absent"), r"config\.json has no n_head"),
    "odd rotary_dim": (edit_config(rotary_dim=3), r"rotary_dim 3; an even number up to 4"),
    "too large rotary_dim": (edit_config(rotary_dim=6), r"rotary_dim 6; an even number up to 4"),
    "heads not in four groups": (edit_config(n_head=2), r"n_head 2 and n_embd 64; n_head must be a multiple of 4"),
    "uneven heads": (edit_config(n_head=12), r"n_head 12 and n_embd 64"),
    "a number that is none": (edit_config(n_layer="1"), r"n_layer '1'; a positive whole number"),
    "tied embeddings": (edit_config(tie_word_embeddings=True), r"tie_word_embeddings true"),
    "a missing tensor": (
        edit_tensors(lambda tensors: tensors.pop("transformer.h.0.attn.qkv_proj.weight")),
        r"lacks the tensor transformer\.h\.0\.attn\.qkv_proj\.weight\.$",
    ),
    "a missing layer": (edit_config(n_layer=2), r"lacks the tensor transformer\.h\.1\.ln_1\.weight \(and 7 more\)"),
    "an extra tensor": (
        edit_tensors(lambda tensors: tensors.update({"transformer.h.0.attn.qkv_proj.bias": torch.zeros(192)})),
        r"holds the tensor transformer\.h\.0\.attn\.qkv_proj\.bias, for which its model has no place",
    ),
    "a wrong shape": (
        edit_tensors(lambda tensors: tensors.update({"transformer.h.0.attn.qkv_proj.weight": torch.zeros(128, 64)})),
        r"qkv_proj\.weight with the shape 128 × 64; 192 × 64 is needed",
    ),
    "not a number": (edit_tensors(lambda tensors: tensors["lm_head.bias"].fill_(float("nan"))), r"lm_head\.bias holds a number"),
    "two types": (
        edit_tensors(lambda tensors: tensors.update({"lm_head.bias": tensors["lm_head.bias"].half()})),
        r"are float16 and float32; choose one type with --dtype float16\|bfloat16\|float32",
    ),
    "no weights": (lambda source: (source / "model.safetensors").unlink(), r"has no weights: none of model\.safetensors, "),
    "truncated safetensors": (
        lambda source: os.truncate(source / "model.safetensors", 90_000),
        r"model\.safetensors is truncated, damaged or no safetensors file: .*not fully covered",
    ),
    "another zip archive": (edit_zip(), r"pytorch_model\.bin is damaged, or was not written by torch\.save"),
    "a storage that is not whole": (edit_zip(_0=b"1234"), r"pytorch_model\.bin does not hold all of its tensors"),
    "a truncated shard": (cut_shard, r"00002-of-\d+\.bin is truncated"),
    "a tensor alone": (as_bin(torch.zeros(2)), r"holds no dictionary of tensors"),
    "not tensors": (as_bin({"lm_head.weight": [1.0]}), r"holds lm_head\.weight, which is no tensor"),
    "a command": (as_bin({"lm_head.weight": Command()}), r"pytorch_model\.bin holds something else than tensors\.$"),
    "no tokenizer": (lambda source: (source / "tokenizer.json").unlink(), r"has no tokenizer"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(random_codegen(LAYOUTS[0], layers=1), tmp_path_factory.mktemp("source") / "codegen", "safetensors")


@pytest.mark.parametrize("name", REFUSALS)
def test_refuses(name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(shutil.copytree(good, tmp_path / "codegen"))
    spoil, sentence = REFUSALS[name]
    spoil(source)
    with pytest.raises(BuildError, match=sentence):
        convert(source, tmp_path / "gptj")
    assert [path.name for path in tmp_path.iterdir()] == ["codegen"]


def test_refuses_a_number_that_the_type_cannot_hold(good: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(good, tmp_path / "codegen"))
    edit_tensors(lambda tensors: tensors["lm_head.bias"].fill_(70_000.0))(source)
    with pytest.raises(BuildError, match=r"lm_head.bias holds a number that is not finite as float16"):
        convert(source, tmp_path / "gptj", "float16")
    convert(source, tmp_path / "gptj", "bfloat16")


def test_a_target_that_cannot_be_written_is_named(good: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=r"file/gptj\.partial cannot be written: Not a directory\.$"):
        convert(good, tmp_path / "file" / "gptj")


def test_without_the_libraries_the_refusal_says_how_to_get_them(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"has no safetensors and no torch to read weights with: run `make conversion`\.$"):
        read_checkpoint(good)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"model\.safetensors cannot be read: No such file or directory\.$"):
        read_shard(tmp_path / "model.safetensors")


def test_the_index_and_its_files_must_agree(tmp_path: Path) -> None:
    source = save(random_codegen(LAYOUTS[0], layers=1), tmp_path / "codegen", "sharded safetensors")
    index = source / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    shard = document["weight_map"]["transformer.ln_f.weight"]
    (source / shard).rename(tmp_path / "aside")
    with pytest.raises(BuildError, match=f"lacks {shard}, which its index names"):
        read_checkpoint(source)
    (tmp_path / "aside").rename(source / shard)
    for changed, sentence in (
        ({"transformer.ln_f.weight": None}, "holds transformer.ln_f.weight, which the index puts in no file"),
        ({"transformer.ln_g.weight": shard}, "does not hold transformer.ln_g.weight, which the index puts there"),
        ({"transformer.ln_f.weight": "../x.safetensors"}, "names '../x.safetensors', which is not a file beside it"),
    ):
        weight_map = {name: file for name, file in (document["weight_map"] | changed).items() if file}
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(BuildError, match=sentence):
            read_checkpoint(source)
    index.write_text("{}")
    with pytest.raises(BuildError, match="has no weight_map"):
        read_checkpoint(source)


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)


KILLED_HALFWAY = """
import os, signal, sys
from pathlib import Path
from codecascade_build.checkpoints.codegen_gptj import convert

def report(done, total):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)

convert(Path(sys.argv[1]), Path(sys.argv[2]), report=report)
"""


def test_a_killed_run_leaves_nothing_that_looks_whole_and_can_be_repeated(good: Path, tmp_path: Path) -> None:
    killed = python("-c", KILLED_HALFWAY, good, tmp_path / "gptj")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["gptj.partial"]
    assert not (tmp_path / "gptj.partial" / "config.json").exists()
    convert(good, tmp_path / "gptj")
    assert [path.name for path in tmp_path.iterdir()] == ["gptj"]
    assert GPTJForCausalLM.from_pretrained(tmp_path / "gptj").config.n_layer == 1


def test_the_command_converts_and_says_in_one_sentence_what_stands_in_the_way(good: Path, tmp_path: Path) -> None:
    command = ("-m", "codecascade_build.checkpoints.codegen_gptj", good, tmp_path / "gptj", "--dtype", "float16")
    first = python(*command)
    assert (first.returncode, first.stdout) == (0, "")
    assert {tensor.dtype for tensor in read_checkpoint(tmp_path / "gptj").values()} == {"float16"}
    second = python(*command)
    assert second.returncode == 1
    assert second.stderr == f"error: The target {tmp_path / 'gptj'} exists already; remove it or name another.\n"


MEMORY = """
import json, sys
from pathlib import Path
import safetensors.torch, torch
from codecascade_build.checkpoints.codegen_gptj import convert

torch.set_num_threads(1)

def kib(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1])

sharded, whole, target = map(Path, sys.argv[1:])
anonymous = [kib("RssAnon")]
convert(whole, target / "first", shard_bytes=8_000_000, report=lambda *_: anonymous.append(kib("RssAnon")))
open("/proc/self/clear_refs", "w").write("5")  # the peak starts at what is held now
start = kib("VmHWM")
convert(sharded, target / "second", shard_bytes=8_000_000)
converted = kib("VmHWM") - start
tensors = [torch.load(path, weights_only=True) for path in sorted(sharded.glob("*.bin"))]
print(json.dumps({"converted": converted, "loaded": kib("VmHWM") - start, "grown": max(anonymous) - anonymous[0]}))
"""


def test_memory_is_that_of_one_file_whatever_the_size_of_the_model(tmp_path: Path) -> None:
    """A model of 150 MB: in 12 files, by the peak of all memory; in one file, by memory that is not just a mapped file."""
    model = random_codegen(Heads("large", 16, 32, 16), layers=12)
    size_kib = 4 * sum(parameter.numel() for parameter in model.parameters()) // 1024
    whole, sharded = save(model, tmp_path / "whole", "bin"), tmp_path / "sharded"
    shutil.copytree(whole, sharded, ignore=shutil.ignore_patterns("*.bin"))
    model.save_pretrained(sharded, safe_serialization=False, max_shard_size="13MB")
    assert len(list(sharded.glob("*.bin"))) >= 12
    measured = python("-c", MEMORY, sharded, whole, tmp_path)
    assert measured.returncode == 0, measured.stderr
    kib = json.loads(measured.stdout)
    assert kib["loaded"] > size_kib / 2, "the measure does not see the weights"
    assert kib["converted"] < size_kib / 4
    assert kib["grown"] < size_kib / 4
