"""What a careful person would say of a text: one table a reader, and real gold answers fed back."""

import json
import time

import pytest

from spatialvlm.parsing import answers
from spatialvlm.worlds.clevr import facts

SIDES = ("left", "right")
SHAPES = ("sphere", "cube", "cylinder")
COUNTS = ("3", "4", "2", "10")
BOXES = ("red box", "blue box")
CUBES = ("red cube", "blue cube", "cube")
ABCD = ("desk", "chair", "lamp", "door")


@pytest.mark.parametrize(
    "text, choices, expected",
    [
        # a letter in every usual form
        ("B", ABCD, "B"),
        ("b", ABCD, "B"),
        ("a", ABCD, "A"),
        ("(B)", ABCD, "B"),
        ("(b)", ABCD, "B"),
        ("[C]", ABCD, "C"),
        ("B.", ABCD, "B"),
        ("B)", ABCD, "B"),
        ("b) chair", ABCD, "B"),
        ("（Ｂ）", ABCD, "B"),
        ("(B", ABCD, "B"),
        (" B\n", ABCD, "B"),
        ("B. chair", ABCD, "B"),
        ("B: chair", ABCD, "B"),
        ("(A) desk", ABCD, "A"),
        ("A desk", ABCD, "A"),
        ("A - desk", ABCD, "A"),
        ("**B**", ABCD, "B"),
        ("__B__", ABCD, "B"),
        ("`B`", ABCD, "B"),
        ("Answer: B", ABCD, "B"),
        ("Answer: b", ABCD, "B"),
        ("answer B", ABCD, "B"),
        ("**Answer:** (B)", ABCD, "B"),
        ("Answer:\n\nB", ABCD, "B"),
        ('{"answer": "B"}', ABCD, "B"),
        ("The answer is A", ABCD, "A"),
        ("The answer is A.", ABCD, "A"),
        ("The answer is a", ABCD, "A"),
        ("The answer is (B) right", SIDES, "B"),
        ("The answer would be B, since the chair is nearer.", ABCD, "B"),
        ("The answer to the question is B.", ABCD, "B"),
        ("The correct option is C.", ABCD, "C"),
        ("Option C", ABCD, "C"),
        ("option c.", ABCD, "C"),
        ("I choose D", ABCD, "D"),
        ("It's B", ABCD, "B"),
        ("B is the correct answer.", ABCD, "B"),
        ("A is correct", ABCD, "A"),
        ("A because it is closer", ABCD, "A"),
        ("\\boxed{B}", ABCD, "B"),
        ("So we get $\\boxed{\\text{(B)}}$ and not (A).", ABCD, "B"),
        ("\\(B\\)", ABCD, "B"),
        ("<answer>B</answer>", ABCD, "B"),
        ("<ANSWER> (B) </ANSWER>", ABCD, "B"),
        ("<answer>B", ABCD, "B"),
        ("<think>A is near, so A?</think> B", ABCD, "B"),
        ("<think>maybe A, maybe C</think><answer>B</answer>", ABCD, "B"),
        # the choice itself
        ("left", SIDES, "A"),
        ("Right.", SIDES, "B"),
        ("the red cube", CUBES, "A"),
        ("It is the cube.", CUBES, "C"),
        ("The red cube is nearer than the blue cube.", CUBES, "A"),
        ("I think it is a cube", SHAPES, "B"),
        ("The answer is A cube", SHAPES, "B"),
        ("a cube", SHAPES, "B"),
        ("The object on the left", ("The left object", "object on the left"), "B"),
        ("chair was moved left", ("the chair was moved left", "chair was moved right."), "A"),
        ("top-left", ("left", "top left"), "B"),
        ("grey", ("red", "gray"), "B"),
        ("not moving", ("moving", "not moving"), "B"),
        ("4", COUNTS, "B"),
        ("There are three chairs.", COUNTS, "A"),
        ("10", COUNTS, "D"),
        ("2.5 m", ("2 m", "2.5 m"), "B"),
        ("1,000", ("100", "1000"), "B"),
        ("no", ("yes", "no"), "B"),
        ("red", BOXES, "A"),
        ("The blue one.", BOXES, "B"),
        ("box", BOXES, None),
        ("the one", BOXES, None),
        ("green", BOXES, None),
        # a text that reasons and concludes
        ("(A) desk (B) chair\nB", ABCD, "B"),
        ("(A) left\n(B) right\n\nB", SIDES, "B"),
        ("A is a desk. B is a chair. The answer is B.", ABCD, "B"),
        ("First I thought the answer is A. But the answer is C.", ABCD, "C"),
        ("The desk is far, the chair is near. So the chair.", ABCD, "B"),
        ("(A) is far. (B) is near. Therefore, (B).", ABCD, "B"),
        ("The desk and the chair stand near each other.\nChair", ABCD, "B"),
        ("A? No. Wait, B", ABCD, "B"),
        ("Which is closer, the desk or the chair? The chair.", ABCD, "B"),
        ("I see 2 chairs and 1 more, so 3 in all.", COUNTS, "A"),
        ("The answer is B, not A.", ABCD, "B"),
        ("B, because A is farther away.", ABCD, "B"),
        ("It is not left but right", SIDES, "B"),
        ("I'm not sure, but I think B", ABCD, "B"),
        # unparsed
        ("", ABCD, None),
        ("   \n", ABCD, None),
        ("...", ABCD, None),
        ("Based on the image, it is hard to say.", ABCD, None),
        ("Based on", ABCD, None),
        ("A person stands in a room.", ABCD, None),
        ("A dog", ABCD, None),
        ("I", ABCD, None),
        ("I cannot tell.", ("a",) * 9, None),
        ("A or B or C", ABCD, None),
        ("A or B", SIDES, None),
        ("(A) or (B)", ABCD, None),
        ("A/B", ABCD, None),
        ("A, B", ABCD, None),
        ("The answer is A or B.", ABCD, None),
        ("both A and B", ABCD, None),
        ("neither A nor B", ABCD, None),
        ("Not A", ABCD, None),
        ("left or right", SIDES, None),
        ("left, right", SIDES, None),
        ("(A) left\n(B) right", SIDES, None),
        ("A. desk\nB. chair\nC. lamp\nD. door", ABCD, None),
        ("- desk\n- chair", ABCD, None),
        ("A\nB", ABCD, None),
        ("A > B", ABCD, None),
        ("E", ABCD, None),
        ("(E)", ABCD, None),
        ("The answer is E.", ABCD, None),
        ("(E) chair", ABCD, None),
        ("E. chair", ABCD, None),
        ("C", SIDES, None),
        ("(A) right", SIDES, None),
        ("between 3 and 4", COUNTS, None),
        ("3.5", COUNTS, None),
        ("5", COUNTS, None),
        ("rightmost", SIDES, None),
        ("I am not sure", ("yes", "no"), None),
        ("<think>So the answer is B", ABCD, None),
        ("<answer></answer>", ABCD, None),
        ("The answer is B <answer> </answer>", ABCD, "B"),
        ("cannot be determined", ABCD, None),
    ],
)
def test_choice(text, choices, expected):
    assert answers.choice(text, choices) == expected


@pytest.mark.parametrize(
    "form", ["{l}", "({l})", "{l}.", "Answer: {l}", "The answer is {l}", "{l}) {t}", "{t}", "({l}) {t}"]
)
@pytest.mark.parametrize("index", range(4))
def test_every_choice_in_every_form(form, index):
    assert answers.choice(form.format(l="ABCD"[index], t=ABCD[index]), ABCD) == "ABCD"[index]


def test_choice_needs_choices():
    with pytest.raises(ValueError, match="at least two"):
        answers.choice("A", ("left",))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("3", 3),
        ("3.", 3),
        ("-2", -2),
        ("−2", -2),
        ("minus two", -2),
        ("1,000", 1000),
        ("12,345,678", 12345678),
        ("1e3", 1000),
        ("1.5e-2", 0.015),
        (".5", 0.5),
        ("3.5 meters", 3.5),
        ("350cm", 350),
        ("12 m²", 12),
        ("about 3", 3),
        ("four", 4),
        ("Four.", 4),
        ("zero", 0),
        ("none", 0),
        ("There are no cubes.", 0),
        ("twenty-one", 21),
        ("twenty one", 21),
        ("one hundred and five", 105),
        ("two thousand three hundred", 2300),
        ("3 million", 3000000),
        ("a dozen", 12),
        ("one", 1),
        ("There is one cube.", 1),
        ("4 (four)", 4),
        ("**7**", 7),
        ("<answer> 3 </answer>", 3),
        ("<answer>\n3 dogs</answer>", 3),
        ("I count 1, 2, 3. The answer is 3.", 3),
        ("2 red + 3 blue = 5", 5),
        ("There are 2 red and 3 blue ones, so 5 in total.", 5),
        ("3 red ones, 2 blue ones. Total: 5", 5),
        ("No cubes.", 0),
        ("1. There are 4 cubes", 4),
        ("not 3 but 4", 4),
        ("\\boxed{42}", 42),
        ("4 objects in the 3D scene", 4),
        ("2 of the 1st kind", 2),
        ("How many cubes are there, 2 or 3? 3", 3),
        # unparsed
        ("", None),
        ("many", None),
        ("between 2 and 3", None),
        ("2-3", None),
        ("2 to 3", None),
        ("two or three", None),
        ("2 or 3", None),
        ("more than 3", None),
        ("at least 3", None),
        ("I see 2 cubes and 3 spheres.", None),
        ("the red one", None),
        ("two and a half", 2.5),
        ("zero point five", 0.5),
        ("2 m by 3 m", None),
        ("No idea", None),
        ("one of them", None),
        ("none of the above", None),
        ("1.2.3", None),
        ("10^3", 1000),
        ("10³", 1000),
        ("1e999", None),
        ("N1", None),
        ("someone", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_number(text, expected):
    value = answers.number(text)
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("YES", "yes"),
        ("yeah", "yes"),
        ("no", "no"),
        ("No, it is not.", "no"),
        ("True", "yes"),
        ("false", "no"),
        ("The answer is no.", "no"),
        ("<answer>yes</answer>", "yes"),
        ("Yes, there is no other cube.", "yes"),
        ("No, yes would be wrong.", "no"),
        ("There are no cubes.", "no"),
        ("I think so: yes", "yes"),
        ("No doubt: yes", "yes"),
        ("I was told no. Actually, yes", "yes"),
        ("", None),
        ("not sure", None),
        ("I'm not sure", None),
        ("not", None),
        ("nothing", None),
        ("know", None),
        ("yes or no", None),
        ("Yes and no", None),
        ("yes/no", None),
        ("I can't say yes or no", None),
        ("maybe", None),
        ("no idea", None),
        ("yesterday", None),
    ],
)
def test_yes_no(text, expected):
    assert answers.yes_no(text) == expected


COLORS = ("red", "blue", "gray", "green")


@pytest.mark.parametrize(
    "text, vocabulary, expected",
    [
        ("red", COLORS, "red"),
        ("Red.", COLORS, "red"),
        ("It is the red one.", COLORS, "red"),
        ("grey", COLORS, "gray"),
        ("greyish", COLORS, None),
        ("hundred", COLORS, None),
        ("red and blue", COLORS, None),
        ("red, not blue", COLORS, "red"),
        ("The blue one is far. The answer is red.", COLORS, "red"),
        ("spheres", SHAPES, "sphere"),
        ("boxes", ("box", "ball"), "box"),
        ("the red cube", ("cube", "red cube"), "red cube"),
        ("", COLORS, None),
        ("purple", COLORS, None),
    ],
)
def test_word(text, vocabulary, expected):
    assert answers.word(text, vocabulary) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("<answer>3</answer>", "3"),
        ("<answer>1</answer> no: <answer> 2 </answer> done", "2"),
        ("<Answer>two\nlines", "two\nlines"),
        ("<answer></answer>", ""),
        ("3", None),
    ],
)
def test_inside_answer_tags(text, expected):
    assert answers.inside_answer_tags(text) == expected


@pytest.mark.parametrize(
    "text, vocabulary, expected",
    [
        ("Yes.", ("yes", "no"), "yes"),
        ("There are 3.", tuple(map(str, range(11))), 3),
        ("metal", ("rubber", "metal"), "metal"),
        ("2", ("yes", "no"), None),
    ],
)
def test_one_of(text, vocabulary, expected):
    assert answers.one_of(text, vocabulary) == expected


def test_long_text_is_read_quickly_enough():
    thoughts = "The desk stands there and the chair stands here, so one sees. " * 200
    assert answers.choice(thoughts + "Answer: C", ABCD) == "C"


LOOPS = (  # what a model caught in a loop repeats, and what would make a search start over and over
    *".,;:!?-–_*#$%&|/\\'\"`~^+=<>()[]{}0a é½√✅\t\n\x00\u3000\u200b\u0301\ud800\ufdfa\ue000\ue001否ا一",
    *(
        "\n\n",
        "\\boxed{",
        "\\frac{1}{2}",
        "\\sqrt{",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "◁think▷",
        "[THINK]",
    ),
    *(
        "<|im_end|>",
        "<|channel|>analysis",
        "\nQ: ",
        "Thought: ",
        "the answer is ",
        "answer: ",
        "so ",
        "wait, ",
        "no, ",
        "yes ",
    ),
    *(
        "not ",
        "not A, ",
        "A or ",
        "neither A nor ",
        "than ",
        "don't ",
        "I can't tell ",
        "I'm not sure ",
        "no image ",
        "error ",
    ),
    *(
        "confidence: ",
        "95% ",
        "12:30 ",
        "1,",
        "1.",
        "1 ",
        "1/2 ",
        "1 000 ",
        "1,000",
        "2m",
        "1e",
        "10^",
        "± 2 ",
        "1 + ",
        "x = ",
    ),
    *(
        "two ",
        "twenty-one ",
        "one hundred and ",
        "dos ",
        "treinta y ",
        "三把",
        "اثنا عشر ",
        "нет ",
        "tidak ",
        "der ",
        "ख ",
    ),
    *(
        "(A) ",
        "A ",
        "A, ",
        "A. a\n",
        "- a\n",
        "| ",
        "[1] ",
        "[x] ",
        "<a",
        "<b>",
        '{"a":',
        '{"answer": "B", ',
        "desk ",
        "N1 ",
    ),
    *(
        "http://a ",
        "aaaa.jpg ",
        "first ",
        "distance ",
        "between a and ",
        "let me look ",
        "for example ",
        "if not ",
        "word " * 30,
    ),
)
READERS = {
    "choice": lambda text: answers.choice(text, ABCD),
    "choice of numbers": lambda text: answers.choice(text, COUNTS),
    "number": answers.number,
    "yes_no": answers.yes_no,
    "word": lambda text: answers.word(text, COLORS),
}


def seconds(reader, loop, length):
    text, started = (loop * (length // len(loop) + 1))[:length], time.process_time()
    reader(text)
    return time.process_time() - started


def test_a_model_caught_in_a_loop_is_read_quickly_enough():
    """Each loop through one of the readers in turn; quadratic ones took seconds to minutes."""
    for index, loop in enumerate(LOOPS):
        name = list(READERS)[index % len(READERS)]
        assert seconds(READERS[name], loop, 200_000) < 1.5, (loop, name)


@pytest.mark.slow
def test_a_million_characters_of_anything_are_read_within_a_second():
    for loop in LOOPS:
        for name, reader in READERS.items():
            assert seconds(reader, loop, 1_000_000) < 1, (loop, name)


@pytest.mark.parametrize(
    "text", ["7" * 5000, f"1/{'7' * 5000}", "10^9999", f"√{'7' * 400}", "\ud800 3", "3\x00"]
)
def test_no_text_raises(text):
    for reader in READERS.values():
        reader(text)


def test_every_choice_of_the_real_sat_and_vsi_questions_reads_as_itself(real_data):
    rows = [row["answer_choices"] for row in json.loads((real_data / "sat/sat_test_text.json").read_text())]
    for line in (real_data / "vsi/vsi_bench_scannet.jsonl").read_text().splitlines():
        if options := json.loads(line)["options"]:
            rows.append([option.split(". ", 1)[1] for option in options])
    for choices in rows:
        for index, text in enumerate(choices):
            assert answers.choice(text, choices) == chr(65 + index), (text, choices)
            assert answers.choice(f"({chr(65 + index)})", choices) == chr(65 + index)


def test_every_gold_answer_of_real_clevr_reads_as_itself(real_data):
    file = real_data / "clevr/questions/CLEVR_train_questions.json"
    words = sum(facts.VALUES.values(), ())
    questions = json.loads(file.read_text())["questions"]
    for answer in {row["answer"] for row in questions}:
        vocabulary = ("yes", "no") if answer in ("yes", "no") else ("0", "1") if answer.isdecimal() else words
        assert str(answers.one_of(answer, vocabulary)) == answer


def test_real_completions_score_what_was_published(real_data):
    """R1-V's Qwen2-VL-2B on SuperCLEVR: 82.5 % by the integer inside `<answer>`."""
    lines = (real_data / "r1v/superclevr_test200_predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    right = sum(answers.number(row["model_output"]) == row["ground_truth"] for row in rows)
    assert len(rows) == 200 and right / len(rows) == 0.825
