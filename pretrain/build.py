"""The embedded model's shape, words and processor: a true PaliGemma 2, only small."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

IMAGE_SIZE, PATCH_SIZE = 126, 14
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2  # 81
WIDTH, HEAD_DIM, VISION_LAYERS, TEXT_LAYERS = 192, 32, 6, 4

LABELS = tuple(f"N{number}" for number in range(1, 26))  # of nodes on a plane
# Whole words: those of questions over rendered scenes and over nodes, and of the benchmarks' forms. Any other
# word is spelt out, so no text is lost on the way in.
WORDS = tuple(
    """
cube cubes sphere spheres cylinder cylinders thing things object objects block blocks ball balls large big
small tiny rubber metal metallic matte shiny gray red blue green brown purple cyan yellow color shape size
material colors shapes Is Are Do Does Did What Which Where How Considering Estimate Select Choose Answer If
There Describe describe I The Yes No is are do does did what which where how there it its the a an of on in to
at by or and than as from with without not that this these those same have has made other else another any
anything either both number many more fewer less greater equal visible scene image photo picture camera taking
provided given left right front behind above below side middle closer closest nearer nearest farther further
near far farthest away between relative position positions respect located highlighted box boxes real world
distances distance depth relation count following choices options natural language letter letters yes no think
answer first second third one two three four five six seven eight nine ten desk room floor wall square area
length longest size you am my standing facing back backward forward turn turned rotated moved toward towards
video frames meters centimeters point points node nodes path paths shortest route tour lines line joined next
start starts end ends visits returns every once straight grid cell row column plane top bottom center upper
lower middle corner quadrant coordinates order nearest label labels labelled far apart long wide big Standing
Measuring estimate Please provide short word words using single phrase dimension width height measured
would degrees quadrants Cartesian origin positive axis observe From such along whole decimal place units high
Give your then question each about thoughts These observation multiple rooms shown combined space if statement
true false close directions refer An least face north northeast east southeast south southwest west northwest
In direction over Order their times up down higher highest lowest lower
""".split()  # noqa: SIM905 - a paragraph of words reads better than a list
)
NUMBERS = [str(number) for number in range(101)]
# Punctuation is a token by itself; as text it stands where people put it: 1.6, front-left, </think>, (3, 4).
JOINED = {
    r"(?<=\d) \. (?=\d)": ".",
    r"(?<=[a-z]) - (?=[a-z])": "-",
    "< / ": "</",
    r"<(?! /) (?=[a-z])": "<",
    "(?<=[a-z]) >": ">",
    r"(?<=\() ": "",
    " (?=[,)])": "",
}
CHARACTERS = sorted(set(string.printable) - set(string.whitespace))


def processor() -> PaliGemmaProcessor:
    """A PaliGemmaProcessor for 126 px images (81 image tokens) over about 500 whole words and every
    character.
    """
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *string.ascii_uppercase, *WORDS, *NUMBERS, *LABELS]
    pieces += CHARACTERS
    pieces += [f"##{character}" for character in CHARACTERS]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    text = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>", max_input_chars_per_word=64))
    text.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    joined = [decoders.Replace(Regex(apart), together) for apart, together in JOINED.items()]
    text.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *joined]
    )
    special = {name: f"<{name[:3]}>" for name in ("pad_token", "eos_token", "bos_token", "unk_token")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=text, clean_up_tokenization_spaces=False, **special)
    # PaliGemma's prompts end in the first, routes are joined by the second
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("\n", "->")])
    images = SiglipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    images.image_seq_length = IMAGE_TOKENS  # PaliGemmaProcessor reads it when it is made
    return PaliGemmaProcessor(images, tokenizer)


def model(made: PaliGemmaProcessor) -> PaliGemmaForConditionalGeneration:
    """A PaliGemma 2 of about 5.5 million random weights for this processor's vocabulary, in float32."""
    heads = WIDTH // HEAD_DIM
    vision = SiglipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=VISION_LAYERS,
        num_attention_heads=heads,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=WIDTH,
        vision_use_head=False,
    )
    text = Gemma2Config(
        vocab_size=len(made.tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_DIM,
        query_pre_attn_scalar=HEAD_DIM,
        max_position_embeddings=1024,
        sliding_window=1024,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        projection_dim=WIDTH,
        hidden_size=WIDTH,
        image_token_index=made.image_token_id,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    return PaliGemmaForConditionalGeneration._from_config(config, attn_implementation="eager")


def save(model: PaliGemmaForConditionalGeneration, processor: PaliGemmaProcessor, folder: Path) -> None:
    """Writes model (float16) and processor in the form that `from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().to("cpu", torch.float16).save_pretrained(folder)
    processor.save_pretrained(folder)
