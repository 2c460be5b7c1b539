"""A damaged model folder or GGUF file is ModelMissing, in one line that says what is wrong; a text that is none is BadValue."""

from __future__ import annotations

import json
import re
import shutil

import pytest

pytest.importorskip("transformers")
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from banel_envs.errors import BadValue, ModelMissing
from banel_envs.policies.language.base_model import LanguageModel
from tests.policies.test_gguf import written
from tests.shared.language import CHAT, base, model, saved, talking, tokenizer

torch.set_num_threads(1)
CONFIG, WEIGHTS, WORDS, SAYS = "config.json", "model.safetensors", "tokenizer.json", "generation_config.json"
SHARDS = "model.safetensors.index.json"
MODEL = r"no causal language model that can be read: .*{}.*; download it again, or give a folder"
TOKENIZER = r"no tokenizer that can be read: .*{}.*; download it again, or load a folder without a tokenizer's files"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder that can be loaded."""
    folder = saved(tmp_path_factory.mktemp("whole") / "model", ends=(1,), words=tokenizer())
    assert LanguageModel.load(folder).ids("3 + 4")
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The bytes of a GGUF file that can be loaded."""
    file = written(tmp_path_factory.mktemp("packed") / "whole.gguf", model("llama", 310, (1,)), tokenizer())
    assert LanguageModel.load(file).ids("3 + 4")
    return file.read_bytes()


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-200])


def put(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def gone(name):
    return lambda folder: (folder / name).unlink()


def said(name, **more):
    """The file says this, too; what is None there is taken out."""

    def change(folder):
        all_of_it = json.loads((folder / name).read_text()) | more
        (folder / name).write_text(json.dumps({k: v for k, v in all_of_it.items() if v is not None}))

    return change


def without_a_weight(folder):
    weights = load_file(folder / WEIGHTS)
    del weights["model.norm.weight"]
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def sharded(index):
    def change(folder):
        names = list(load_file(folder / WEIGHTS))
        (folder / WEIGHTS).unlink()
        written = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00002.safetensors")}
        (folder / SHARDS).write_text(json.dumps(written) if index is None else index)

    return change


DAMAGES = {
    "weights cut": (cut(WEIGHTS), MODEL, "file not fully covered"),
    "weights of no bytes": (put(WEIGHTS, b""), MODEL, "header too small"),
    "weights are a page": (put(WEIGHTS, b"<html>not found</html>"), MODEL, "header too large"),
    "weights gone": (gone(WEIGHTS), MODEL, r"no file named model\.safetensors"),
    "one weight gone": (without_a_weight, MODEL, r"the weight model\.norm\.weight is missing"),
    "a layer too many": (said(CONFIG, num_hidden_layers=3), MODEL, r"layers\.2\..* is missing \(and 8 more\)"),
    "other shapes": (
        said(CONFIG, vocab_size=400),
        MODEL,
        r"lm_head\.weight is \[310, 16\] and by the configuration \[400, 16\] \(and 1 more\)",
    ),
    "shard gone": (sharded(None), MODEL, r"model-00001-of-00002\.safetensors"),
    "index cut": (sharded("{"), MODEL, "property name"),
    "index without a map": (sharded("{}"), MODEL, "KeyError: 'weight_map'"),
    "no file": (lambda folder: [one.unlink() for one in folder.iterdir()], MODEL, "`model_type`"),
    "configuration no JSON": (put(CONFIG, b"not JSON"), MODEL, r"config\.json' is not a valid JSON file"),
    "configuration no UTF-8": (put(CONFIG, b"\xff\xfe"), MODEL, r"config\.json' is not a valid JSON file"),
    "configuration a list": (put(CONFIG, b"[]"), MODEL, "`model_type`"),
    "no architecture": (said(CONFIG, architectures=None, model_type=None), MODEL, "`model_type`"),
    "another kind": (said(CONFIG, model_type="vit"), MODEL, "ViTConfig"),
    "no heads": (said(CONFIG, num_attention_heads=0), MODEL, "zero"),
    "width a word": (said(CONFIG, hidden_size="wide"), MODEL, "'hidden_size': .*expected int"),
    "width below 0": (said(CONFIG, hidden_size=-4), MODEL, "negative dimension -4"),
    "activation unknown": (said(CONFIG, hidden_act="none such"), MODEL, "KeyError: 'none such'"),
    "generation cut": (put(SAYS, b'{"eos_token_id": [1'), MODEL, r"generation_config\.json' is not a valid JSON"),
    "generation a list": (put(SAYS, b"[]"), MODEL, "not a mapping"),
    "tokenizer cut": (cut(WORDS), TOKENIZER, "line"),
    "tokenizer of no bytes": (put(WORDS, b""), TOKENIZER, "Expecting value"),
    "tokenizer no UTF-8": (put(WORDS, b"\xff\xfe"), TOKENIZER, "can't decode byte 0xff"),
    "tokenizer a list": (put(WORDS, b"[]"), TOKENIZER, ""),
    "tokenizer without a model": (said(WORDS, model=None), TOKENIZER, "Model missing"),
    "tokenizer gone, its settings there": (gone(WORDS), TOKENIZER, "Couldn't instantiate the backend tokenizer"),
    "settings cut": (put("tokenizer_config.json", b'{"a'), TOKENIZER, "Unterminated string"),
    "template no UTF-8": (put("chat_template.jinja", b"\xff"), TOKENIZER, "can't decode byte 0xff"),
}


def refused(source, pattern):
    """Loading the source is ModelMissing of one line, which begins with the source."""
    with pytest.raises(ModelMissing, match=pattern) as caught:
        LanguageModel.load(source)
    message = str(caught.value)
    assert message.startswith(f"{source} holds ") and "\n" not in message and len(message) < 1_000


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_says_what_is_wrong(damage, whole, tmp_path):
    change, form, cause = DAMAGES[damage]
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    change(folder)
    refused(folder, form.format(cause))


def test_a_configuration_that_names_no_architecture_is_enough(whole, tmp_path):
    """The architecture follows from `model_type`."""
    shutil.copytree(whole, tmp_path / "model")
    said(CONFIG, architectures=None)(tmp_path / "model")
    assert LanguageModel.load(tmp_path / "model").digest == LanguageModel.load(whole).digest


@pytest.mark.parametrize("share", [0.0, 0.0002, 0.002, 0.01, 0.3, 0.6, 0.9, 0.9999])
def test_a_gguf_file_that_is_cut_says_so(share, packed, tmp_path):
    (tmp_path / "cut.gguf").write_bytes(packed[: int(len(packed) * share)])
    refused(tmp_path / "cut.gguf", MODEL.format(""))


@pytest.mark.parametrize("wrong", ["</s>", [1, "</s>"], 1.5, True])
def test_what_ends_a_text_is_an_id(wrong, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "model")
    said(SAYS, eos_token_id=wrong)(tmp_path / "model")
    with pytest.raises(BadValue, match=r"is said to end a text, and is no id; give ends=\[...\]"):
        LanguageModel.load(tmp_path / "model")
    assert LanguageModel.load(tmp_path / "model", ends=[5]).ends == (5,)
    with pytest.raises(BadValue, match="is no id"):
        LanguageModel.load(whole, ends=wrong if isinstance(wrong, list) else [wrong])


# --- texts

TALKING = talking(CHAT)
WAYS = {
    "the text": (TALKING.ids, TALKING.plain_ids),
    "the question": (TALKING.chat, lambda text: TALKING.chat(text, system="Be brief.")),
    "the system's message": (lambda text: TALKING.chat("7", system=text),),
}
everyones = st.text(st.characters(codec=None) | st.characters(categories=["Cs"]), max_size=12)


def half(text):
    """The first position of half of a surrogate pair; None where there is none."""
    found = re.search("[\ud800-\udfff]", text)
    return None if found is None else found.start()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(everyones)
@example("Tom has \ud83d apples")
@example("\udc00")
@example("\ud83d\ude00")  # a pair in two halves is no character, either
@example("\U0001f600 \0 \r\n")
def test_every_text_has_ids_or_names_the_position_of_what_is_no_character(text):
    position = half(text)
    for what, ways in WAYS.items():
        for way in ways:
            if position is None:
                assert all(0 <= k < TALKING.vocabulary for k in way(text))
            else:
                with pytest.raises(
                    BadValue, match=rf"{what} holds '\\u.*' at position {position} \(from 0\)"
                ) as caught:
                    way(text)
                str(caught.value).encode()  # the message is a text itself
    if position is None:
        assert TALKING.text(TALKING.plain_ids(text)) == text


@pytest.mark.parametrize("text", [None, 7, b"7", ["7"], {"7": 7}])
def test_what_is_no_str_is_no_text(text):
    for what, ways in WAYS.items():
        if what != "the system's message" or text is not None:
            for way in ways:
                with pytest.raises(BadValue, match=f"{what} is a {type(text).__name__}; it is a str"):
                    way(text)


def test_a_template_that_writes_half_a_character_is_named():
    with pytest.raises(BadValue, match=r"what its chat template writes holds .* at position 1 "):
        talking(r"x{{ '\ud83d' }}").chat("7")
    with pytest.raises(BadValue, match="refuses the messages: one; write"):
        talking(r"{{ raise_exception('one\ntwo') }}").chat("7")


def test_a_tokenizer_that_is_larger_than_the_head_is_named_where_it_matters(tmp_path):
    words = tokenizer()
    words.add_tokens([f"<{k}>" for k in range(20)])
    folder = saved(tmp_path / "model", V=310, ends=(1,), words=words)
    made = LanguageModel.load(folder)
    last = 309 - (len(words) - 20)  # the last word that the head has a row for
    assert made.ids(f"<{last}>") == [309]
    for ids in (made.ids, made.plain_ids):
        with pytest.raises(
            BadValue, match=rf"the text holds the token '<{last + 1}>', whose id 310 is outside 0\.\.309"
        ):
            ids(f"7 <{last + 1}>")


def test_a_tokenizer_without_a_word_for_the_unknown_is_named():
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="?")))
    made = base("llama", V=4, tokenizer=words)
    assert made.ids("a") == [0]
    with pytest.raises(BadValue, match=r"its tokenizer cannot write the text: .*; give the prompt as ids"):
        made.ids("b")
