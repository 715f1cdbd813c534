"""Questions are right, unambiguous, and cannot be answered from their text."""

import math
import re
from collections import Counter, defaultdict
from random import Random

import pytest

from spatialvlm.worlds.clevr import questions, scenes
from spatialvlm.worlds.clevr.facts import VALUES
from spatialvlm.worlds.clevr.questions import CVBENCH_TASKS, FREE_KINDS, LETTERS, SAT_KINDS

DRAWS = 9  # questions of each kind a scene in the text-only measurements
FORMS = [("sat", kind) for kind in SAT_KINDS] + [("cvbench", task) for task in CVBENCH_TASKS]


@pytest.fixture(scope="module")
def some():
    """A few hundred scenes as the embedded data makes them."""
    return [scenes.make("test-questions", index) for index in range(400)]


def ask(form, scene, kind, seed):
    rng = Random(f"{seed}-{kind}")
    if form == "free":
        return questions.free(scene, rng, kind)
    return questions.sat(scene, rng, kind) if form == "sat" else questions.cvbench(scene, rng, kind)


def fits(scene, phrase):
    """The objects that a phrase of our own wording fits, found word by word."""
    words = set(phrase.removesuffix("s").split()) - {"thing"}
    return [i for i, thing in enumerate(scene["objects"]) if words <= {thing[name] for name in VALUES}]


def only(scene, phrase):
    (index,) = fits(scene, phrase)
    return index


def toward(scene, first, second, side):
    here, there = (scene["objects"][index]["3d_coords"] for index in (first, second))
    return sum((a - b) * d for a, b, d in zip(here, there, scene["directions"][side], strict=True))


def expected(scene, text):
    """The answer in words, worked out from the question's text and the scene alone."""
    objects = scene["objects"]
    if found := re.match(r"Is there an? (.+)\?", text):
        return "yes" if fits(scene, found[1]) else "no"
    if found := re.match(r"What (\w+) is the (.+)\?", text):
        return objects[only(scene, found[2])][found[1]]
    if found := re.match(r"How many (.+) are (?:there|visible in the scene|in the image)\?", text):
        return str(len(fits(scene, found[1])))
    text = re.sub(r" \(highlighted by a \w+ box\)", "", text)
    if found := re.search(
        r"((?:clos|near)er to|(?:farther|far away|farther away) from) the (.+), the (.+) or the (.+)\?", text
    ):
        polarity, anchor, *names = found.groups()
        first, second = (only(scene, name) for name in names)
        if anchor.startswith("camera"):
            gaps = [objects[i]["pixel_coords"][2] for i in (first, second)]
        else:
            target = objects[only(scene, anchor)]["3d_coords"]
            gaps = [math.dist(target, objects[i]["3d_coords"]) for i in (first, second)]
        assert abs(gaps[0] - gaps[1]) > 0.4, "too close to call"
        return names[gaps.index((min if polarity in ("closer to", "nearer to") else max)(gaps))]
    return None


def sides(scene, text):
    """Every side that the first object of a relation question may be said to be on."""
    patterns = (
        r"Is the (.+) (?:left or right of|in front of or behind) the (.+)\?",
        r"Is the (.+) above or below the (.+) in the image\?",
        r"where is the (.+?) (?:located )?with respect to the (.+)\?",
    )
    found = next(found for pattern in patterns if (found := re.search(pattern, text)))
    first, second = (only(scene, name) for name in found.groups())
    (x, y, _), (u, v, _) = (scene["objects"][i]["pixel_coords"] for i in (first, second))
    true = {side for side in ("left", "right", "front", "behind") if toward(scene, first, second, side) > 0.4}
    true |= {"in front"} if "front" in true else set()
    true |= {"above"} if v - y > 30 else {"below"} if y - v > 30 else set()
    return true | ({"left"} if u - x > 30 else {"right"} if x - u > 30 else set())


def words(question):
    """The answer as words: of a lettered question the text of the right choice."""
    found = re.fullmatch(r"\((\w)\)", question.answer)
    return question.choices[LETTERS.index(found[1])] if found else question.answer


@pytest.mark.parametrize(("form", "kind"), [("free", kind) for kind in FREE_KINDS] + FORMS)
def test_answers_are_right_and_references_unique(some, form, kind):
    asked = [(scene, ask(form, scene, kind, i)) for i, scene in enumerate(some)]
    asked = [(scene, question) for scene, question in asked if question]
    assert len(asked) > (0.3 if kind in ("count", "Count") else 0.9) * len(some)
    for scene, question in asked:
        if kind in ("relation", "Relation"):
            assert words(question) in sides(scene, question.question)
        else:
            assert words(question) == expected(scene, question.question), question
    if kind != "Count":
        again = [ask(form, scene, kind, i) for i, scene in enumerate(some)]
        assert [question for question in again if question] == [question for _, question in asked]


def test_sides_follow_the_camera_not_the_axes(some):
    """Turned by a half turn, the same objects swap left and right."""
    turned = {**some[0], "directions": dict(some[0]["directions"])}
    for one, other in (("left", "right"), ("front", "behind")):
        turned["directions"][one], turned["directions"][other] = (
            some[0]["directions"][other],
            some[0]["directions"][one],
        )
    swap = {"left": "right", "right": "left", "front": "behind", "behind": "front"}
    compared = 0
    for seed in range(40):
        here, there = (questions.free(scene, Random(seed), "relation") for scene in (some[0], turned))
        if here.meta["axis"] != "image y":
            assert (here.question, swap[here.answer]) == (there.question, there.answer)
            compared += 1
    assert compared > 20


def test_size_is_not_mentioned_where_it_would_tell(some):
    for i, scene in enumerate(some):
        for kind in ("depth", "distance"):
            if question := ask("free", scene, kind, i):
                first, second = question.meta["objects"][-2:]
                if scene["objects"][first]["size"] != scene["objects"][second]["size"]:
                    pair = question.question.split(", ", 1)[1]
                    assert not re.search("small|large", pair), question.question


def test_existence_is_balanced_for_every_kind_of_filter(some):
    answers = defaultdict(Counter)
    for i, scene in enumerate(some):
        for seed in range(4):
            question = ask("free", scene, "exist", (i, seed))
            answers[len(question.question.split())][question.answer] += 1
    for tally in answers.values():
        total = tally.total()
        assert abs(tally["yes"] / total - 0.5) < 3 * 0.5 / math.sqrt(total)


def test_free_counts_are_spread(some):
    tally = Counter(ask("free", scene, "count", i).answer for i, scene in enumerate(some))
    assert max(tally.values()) < 0.25 * tally.total()
    assert len(tally) == 11


def test_caption_goes_from_left_to_right(some):
    scene = some[1]
    phrases = questions.caption(scene, Random(0)).answer.split(" , ")
    assert len(phrases) == len(scene["objects"])
    along = [max(toward(scene, i, 0, "right") for i in fits(scene, phrase)) for phrase in phrases]
    assert along == sorted(along)


# ---- the forms


def test_sat_prompts():
    natural = questions.sat_prompt("How many?", ["2", "3", "1"], "natural")
    assert natural == "Answer in natural language. How many? Choose between the following options: 2, 3 or 1"
    letter = questions.sat_prompt("How many?", ["2", "3", "1"], "letter")
    assert letter == (
        "Answer with the letter. How many? Choose between the following options:\n(A) 2\n(B) 3\n(C) 1"
    )
    with pytest.raises(ValueError, match="natural or letter"):
        questions.sat_prompt("How many?", ["2", "3"], "mixed")


def test_sat_answer_forms_differ_in_form_only(some):
    for kind in SAT_KINDS:
        for i, scene in enumerate(some[:40]):
            natural = questions.sat(scene, Random(i), kind)
            letter = questions.sat(scene, Random(i), kind, "letter")
            if natural:
                assert natural.choices == letter.choices and natural.question == letter.question
                assert natural.answer == letter.choices[LETTERS.index(letter.answer)]
                assert 2 <= len(natural.choices) <= 4 and len(set(natural.choices)) == len(natural.choices)


@pytest.mark.parametrize("kind", SAT_KINDS)
def test_sat_choices_are_shuffled(some, kind):
    """Every choice is as often first as last, and so is the right one."""
    asked = [ask("sat", scene, kind, (i, n)) for i, scene in enumerate(some) for n in range(2)]
    asked = [question for question in asked if question and len(question.choices) == 2]
    right = sum(question.choices[0] == question.answer for question in asked)
    ordered = sum(list(question.choices) == sorted(question.choices) for question in asked)
    for times in (right, ordered):
        assert abs(times / len(asked) - 0.5) < 3 * 0.5 / math.sqrt(len(asked))


@pytest.mark.parametrize(("task", "size"), [("Count", 4), ("Relation", 2)])
def test_cvbench_choices_are_shuffled(some, task, size):
    """The correct choice is as often in every place, and the order is rising no more often than by chance."""
    asked = [ask("cvbench", scene, task, (i, n)) for i, scene in enumerate(some) for n in range(2)]
    asked = [question for question in asked if question]
    places = Counter(question.answer for question in asked)
    rising = sum(list(question.choices) == sorted(question.choices) for question in asked)
    expected = [(places[f"({letter})"], 1 / size) for letter in LETTERS[:size]]
    for times, chance in (*expected, (rising, 1 / math.factorial(size))):
        assert abs(times / len(asked) - chance) < 4 * math.sqrt(chance * (1 - chance) / len(asked))


def test_sat_polarity(some):
    closer = [questions.sat(scene, Random(i), "depth") for i, scene in enumerate(some)]
    assert not any("farther" in question.question for question in closer if question)
    both = [questions.sat(scene, Random(i), "depth", polarity="balanced") for i, scene in enumerate(some)]
    share = sum("farther" in question.question for question in both if question) / len(both)
    assert 0.4 < share < 0.6


def test_cvbench_prompt_is_the_benchmarks_own():
    prompt = questions.cvbench_prompt("How many cups are in the image?", ["0", "3"])
    assert prompt == "How many cups are in the image? Select from the following choices.\n(A) 0\n(B) 3"


def test_cvbench_boxes_name_the_objects_of_the_text(some):
    for task, colours in (("Depth", ("red", "blue")), ("Distance", ("red", "blue", "green"))):
        question = questions.cvbench(some[0], Random(3), task)
        assert tuple(colour for colour, _ in question.boxes) == colours
        for colour, index in question.boxes:
            name = re.search(rf"the ([a-z ]+) \(highlighted by a {colour} box\)", question.question)[1]
            name = name.split(" the ")[-1]  # "camera taking this photo, the ..." has no comma after [a-z ]+
            assert fits(some[0], name) == [index]
    assert questions.cvbench(some[0], Random(1), "Relation").boxes == ()


def test_out_of_distribution_twin_turns_polarity_and_answer(some):
    for task in CVBENCH_TASKS:
        for i, scene in enumerate(some[:60]):
            plain = questions.cvbench(scene, Random(i), task)
            twin = questions.cvbench(scene, Random(i), task, ood=True)
            if task in ("Count", "Relation") or plain is None:
                assert plain == twin
                continue
            assert twin.question == plain.question.replace("is closer to", "is far away from")
            assert (twin.choices, twin.boxes) == (plain.choices, plain.boxes)
            assert {plain.answer, twin.answer} == {"(A)", "(B)"}
            assert words(twin) == expected(scene, twin.question)


def test_polarity_cannot_be_turned_where_there_is_none():
    with pytest.raises(ValueError, match="Which object is closer to"):
        questions.flip_polarity_text("How many cubes are in the image?")


def test_scenes_without_a_question_give_none(some):
    alone = {**some[0], "objects": some[0]["objects"][:1]}
    for kind in ("relation", "depth", "distance"):
        assert questions.free(alone, Random(0), kind) is None
        assert questions.sat(alone, Random(0), kind) is None
    twins = {**some[0], "objects": [some[0]["objects"][0] | {"3d_coords": [x, 0, 1]} for x in (-2, 2)]}
    assert questions.free(twins, Random(0), "relation") is None  # neither can be singled out
    assert questions.free(twins, Random(0), "attribute") is None


# ---- nothing is given away by the text


def features(question, number):
    """All a blind reader knows of choice `number`: words, place, rank; alone and with the question."""
    choice = question.choices[number]
    ordered = sorted(question.choices, key=lambda text: (len(text), text))
    kinds = {value: name for name, values in VALUES.items() for value in values}
    template = " ".join(kinds.get(re.sub("s?[,?]?$", "", word), word) for word in question.question.split())
    mentioned = question.question.find(choice)
    own = {
        f"place {number}",
        f"rank {ordered.index(choice)} of {len(ordered)}",
        f"mentioned first {mentioned == min(question.question.find(c) for c in question.choices)}",
        f"text {choice} among {ordered}",
        *(f"word {word}" for word in choice.split()),
    }
    return own | {f"{feature} | {template}" for feature in own} | {f"{choice} | {question.question}"}


def blind_accuracy(asked):
    """(accuracy of a naive Bayes reader trained on the first half and tested on the second, chance there)."""
    half = len(asked) // 2
    seen = {True: Counter(), False: Counter()}
    total = Counter()
    for question in asked[:half]:
        for number, choice in enumerate(question.choices):
            right = choice == words(question)
            total[right] += 1
            seen[right].update(features(question, number))

    def score(feature):
        right, wrong = ((seen[truth][feature] + 1) / (total[truth] + 2) for truth in (True, False))
        return math.log(right / wrong)

    hits = chance = 0
    for question in asked[half:]:
        scores = [sum(map(score, sorted(features(question, n)))) for n in range(len(question.choices))]
        hits += question.choices[scores.index(max(scores))] == words(question)
        chance += 1 / len(question.choices)
    return hits / (len(asked) - half), chance / (len(asked) - half)


@pytest.mark.parametrize(("form", "kind"), FORMS)
def test_text_alone_stays_at_chance(some, form, kind):
    drawn = (ask(form, scene, kind, (i, n)) for i, scene in enumerate(some) for n in range(DRAWS))
    asked = [question for question in drawn if question]
    accuracy, chance = blind_accuracy(asked)
    print(f"{form} {kind}: {accuracy:.3f} from the text alone, chance {chance:.3f}, {len(asked)} questions")
    assert accuracy - chance < 0.03


def test_blind_reader_finds_counts_that_give_themselves_away(some):
    """The same reader, on distractors from count - 3 to count + 3: the middle is right too often."""
    asked = []
    for i, scene in enumerate(some):
        for draw in range(DRAWS):
            rng = Random(f"{i}-{draw}")
            right = int(questions.free(scene, rng, "count").answer)
            window = [n for n in range(right - 3, right + 4) if n >= 0 and n != right]
            choices = [str(n) for n in [right, *rng.sample(window, 3)]]
            rng.shuffle(choices)
            asked.append(questions.Question("How many?", str(right), "count", tuple(choices)))
    accuracy, chance = blind_accuracy(asked)
    assert accuracy - chance > 0.06
