"""The English of what answers in other languages, in ASCII digits and the words that the parsers know.

`in_english` replaces the words of the table in `languages.toml`; all others stay as they are. A language is
recognized by its script or, in Latin script, by its most frequent words.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from spatialvlm.parsing.languages import ENGLISH, LANGUAGES, LATIN, Language

# ---- letters of other alphabets where they stand as a choice: "(ख)", "ب)", and Cyrillic ones that look Latin

_LETTERS = {
    **dict(zip("АВСЕ", "ABCE", strict=True)),
    **dict(zip("कखगघङ", "ABCDE", strict=True)),
    **dict(zip("কখগঘঙ", "ABCDE", strict=True)),
    **dict(zip("أبجده", "ABCDE", strict=True)),
    **dict(zip("アイウエオ", "ABCDE", strict=True)),
    **dict(zip("甲乙丙丁戊", "ABCDE", strict=True)),
    "ا": "A",
    "الف": "A",
}
_LETTER = "|".join(_LETTERS)
_ANSWERING = "ответ|вариант|उत्तर|विकल्प|উত্তর|বিকল্প|الجواب|الإجابة|الخيار|جواب|آپشن|答え|正解|答案|选|選択肢"
_FOREIGN_LETTER = re.compile(
    rf"\A\W*({_LETTER})(?=\W*\Z|\s?[).:،،])|[(\[]\s?({_LETTER})\s?[)\]]"
    rf"|(?:{_ANSWERING})\W{{1,4}}({_LETTER})(?=\W*$|\s?[).:,،])",
    re.M | re.I,
)

# ---- scripts

_DEVANAGARI, _BENGALI, _ARABIC = "\u0900-\u097f", "\u0980-\u09ff", "\u0600-\u06ff\u0750-\u077f"
_HAN, _KANA, _CYRILLIC = "\u3400-\u9fff", "\u3040-\u30ff", "\u0400-\u04ff"
_INSIDE = rf"\w{_DEVANAGARI}{_BENGALI}{_ARABIC}"  # \w has no vowel signs
_STOPS = {ord("。"): ". ", ord("、"): ", "} | {
    ord(sign): ascii_sign for sign, ascii_sign in zip("۔।،؛，：٫٬٪；", "..,;,:.,%;", strict=True)
}
_URDU_ONLY = re.compile("[ٹڈڑںےہھگچپکی]")
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_CLAUSE = re.compile(r"[^.!?;:,\n]+[.!?;:,\n]*|[.!?;:,\n]+")
_INITIAL_WORD = re.compile(  # "E a imagem", "A la izquierda", but "A oder B", "A est"
    r"(?:(?<=\A)|(?<=[.!?]\s))(?:[AEOY]|À)\s(?=[a-zà-ÿ])(?!(?:o|u|y|e|ou|oder|atau|dan|et|und|ni|nem|noch"
    r"|maupun|or|and|es|é|est|ist|está|era|is|lautet|adalah|parece)\b)"
)
_ABBREVIATION = re.compile(r"\b(?:z\.\s?B\.|D\.\s?h\.|d\.\s?h\.|u\.\s?a\.|p\.\s?ej\.|c\.-à-d\.)")


@dataclass(frozen=True, eq=False)
class _Rules:
    pattern: re.Pattern
    english: dict[str, str]
    numbers: re.Pattern | None
    values: dict[str, float]
    words: frozenset[str]
    one: re.Pattern | None


def _alternatives(words: list[str], apart: bool) -> str:
    """A pattern of any of the words, longest first."""
    parts = []
    for word in sorted(words, key=len, reverse=True):
        part = (
            re.escape(word)
            .replace("\\ _\\ ", r"(?:\s[^\s.,;:!?]{1,30}){0,3}?,?\s")
            .replace("\\~", r"\w{0,4}")
        )
        parts.append(part.replace("\\ ", r"\s{1,3}").replace(" ", r"\s{1,3}"))
    joined = "|".join(parts)
    return rf"(?<![{_INSIDE}])(?:{joined})(?![{_INSIDE}])" if apart else rf"(?:{joined})"


@lru_cache(maxsize=16)
def _rules(language: Language) -> _Rules:
    apart = language.name not in ("Chinese", "Japanese")
    english = {}
    for meaning, words in language.phrases.items():
        english |= {unicodedata.normalize("NFKC", word): meaning for word in words}
    values: dict[str, float] = {}
    for number, names in enumerate(unicodedata.normalize("NFKC", language.numbers).split()):
        values |= dict.fromkeys(names.split("/"), number)
    for value, names in re.findall(r"([\d.]+)\s+([^\d]+)", unicodedata.normalize("NFKC", language.others)):
        values |= dict.fromkeys((name.strip() for name in names.split("/")), float(value))
    if language.name == "German":
        tens = [name for name, value in values.items() if 20 <= value < 100]
        for name, value in list(values.items()):
            if 1 <= value < 10 and name not in ("zwo",):
                stem = "ein" if name == "eins" else name
                values |= {f"{stem}und{ten}": value + values[ten] for ten in tens}
    ones = [word for word in language.one.split("/") if word]
    one_values = {word: values.pop(word) for word in ones if word in values}
    numbers = None
    if values:
        part = _alternatives(list(values), apart=False)
        further = _alternatives([*values, *ones], apart=False)
        join = rf"(?:[\s-]{{1,3}}(?:(?:{'|'.join([*language.joins.split(), 'and'])})[\s-]{{0,3}})?)"
        ending = "(?:टी|টি|টা)?" if language.name == "Bengali" else ""
        prefix = "و?" if language.name == "Arabic" else ""
        sides = (rf"(?<![{_INSIDE}]){prefix}", rf"{ending}(?![{_INSIDE}])") if apart else ("", "")
        numbers = re.compile(rf"{sides[0]}({part}(?:{join}{prefix}{further})*){sides[1]}", re.I)
    one = None
    if ones:
        any_one = rf"(?:{'|'.join(ones)})"
        one = re.compile(
            rf"(\bthere are\s+){any_one}\b(?!\s(?:par|paar|poco|peu)\b)|\A(\W*){any_one}(?=\W*\Z)"
            rf"|\b{any_one}(?=\s(?:m[eè]t[er]|meter|zentimeter|cent[ií]))",
            re.I,
        )
    tokens = {token for word in english for token in _WORD.findall(word)} | set(values) | set(ones)
    known = frozenset(token.lower() for token in tokens) | frozenset(language.frequent.split())
    pattern = re.compile(_alternatives(list(english), apart), re.I)
    return _Rules(pattern, english, numbers, values | one_values, known, one)


# ---- translation


def in_english(text: str) -> str:
    """A plain text with the words that make an answer in English, whatever language it is in.

    Only the words of the table are replaced; digits of all scripts become those of ASCII.
    """
    if text.isascii():
        return _latin(text)
    text = re.sub(r"[^\W\D0-9]|(?![0-9])\d", lambda digit: str(unicodedata.decimal(digit[0])), text)
    text = _FOREIGN_LETTER.sub(_latin_letter, text)
    if re.search(f"[{_HAN}{_KANA}]", text):
        text = _han(text)
    text = text.translate(_STOPS)
    if re.search(f"[{_DEVANAGARI}]", text):
        text = _half_more(_translated(text, LANGUAGES["Hindi"]))
    if re.search(f"[{_BENGALI}]", text):
        text = re.sub(rf"(?<=[{_BENGALI}]{{2}})(?<!ত্রু)(?:টি|টা|গুলি|গুলো)(?=[\s.,;:!?]|$)", "", text)
        text = _translated(text, LANGUAGES["Bengali"])
    if re.search(f"[{_ARABIC}]", text):
        text = re.sub(r"خطأ(?=\s*\d)", "error:", text)
        text = _translated(text, LANGUAGES["Urdu"] if _URDU_ONLY.search(text) else LANGUAGES["Arabic"])
        text = re.sub(r"(?<!\w)و(?=\s?[A-Z]\b)", " and ", text)
        text = re.sub(r"(?<!\w)[وفبل]?ال(?=\w{2})", "", text)
    if re.search(f"[{_CYRILLIC}]", text):
        text = re.sub(
            r"\bнет(?=\s+\w)(?!\s+(?:изображ|картин|фото|данн|информ))|(?<=\w )(?<!или )(?<!и )нет(?=\W*$)",
            "there are no",
            text,
            flags=re.I | re.M,
        )
        text = _translated(text, LANGUAGES["Russian"])
    return _latin(text)


def _latin_letter(match: re.Match) -> str:
    letter = next(filter(None, match.groups()))
    start = match.start(match.lastindex) - match.start()
    latin = _LETTERS.get(letter) or _LETTERS[letter.upper()]
    return f"{match[0][:start]} {latin}{match[0][start + len(letter) :]}"


def _latin(text: str) -> str:
    """Text in Latin script: as a whole in one language, or else by clauses."""
    words = _words(text)
    if not words or (len(words) == 1 and len(words[0]) == 1):
        return text
    if language := _recognized(words, least=1):
        return _translated(_initial_words(text), language)
    if len(words) > 3 and any(word not in ENGLISH and word in _all_words() for word in words):
        clauses = _CLAUSE.findall(text)
        for index, clause in enumerate(clauses):
            if language := _recognized(_words(clause), least=2):
                clauses[index] = _translated(clause, language)
        return "".join(clauses)
    return text


def _words(text: str) -> list[str]:
    """The words of a text, those with hyphens in parts too; a capital by itself is a choice."""
    words = [word.lower() for word in _WORD.findall(text) if len(word) > 1 or not ("A" <= word <= "Z")]
    return [part for word in words for part in ({word, *word.split("-")} if "-" in word else (word,))]


def _initial_words(text: str) -> str:
    return _ABBREVIATION.sub(" ", _INITIAL_WORD.sub(" ", text))


@lru_cache(maxsize=1)
def _all_words() -> frozenset[str]:
    return frozenset().union(*(_rules(language).words for language in LATIN.values())) - ENGLISH


@lru_cache(maxsize=4096)
def _language_of(words: tuple[str, ...], least: int) -> str | None:
    english = sum(word in ENGLISH for word in words)
    counts = {name: sum(word in _rules(language).words for word in words) for name, language in LATIN.items()}
    if len(words) == 1 and not english:  # "Ya." is a yes in one language and a part of phrases in others
        counts = {name: count + (words[0] in _rules(LATIN[name]).english) for name, count in counts.items()}
    name = max(counts, key=counts.get)
    if not any(len(word) > 1 and word in _rules(LATIN[name]).words for word in words):
        return None
    accented = any(not word.isascii() or len(word) > 6 for word in words if word in _rules(LATIN[name]).words)
    return name if counts[name] > english and (counts[name] >= least or accented) else None


def _recognized(words: list[str], least: int) -> Language | None:
    name = _language_of(tuple(words[:200]), least)
    return LATIN[name] if name else None


def _translated(text: str, language: Language) -> str:
    rules = _rules(language)

    def meaning(match: re.Match) -> str:
        found = re.sub(r"\s+", " ", match[0].lower())
        return f" {rules.english[found] if found in rules.english else _meaning(found, rules)} "

    text = rules.pattern.sub(meaning, text)
    if rules.one:
        text = rules.one.sub(lambda match: f"{match[1] or match[2] or ''} 1 ", text)
    if rules.numbers:
        text = rules.numbers.sub(lambda match: _in_digits(match[1], rules.values), text)
    text = _UNIT_AND_HALF.sub(r" 1.5 \1", text)
    text = _HALF.sub(r"\1.5\2", re.sub(r"\bis\s+is\b", "is", re.sub(r"[ \t]{2,}", " ", text)))
    return _LONE_NOT.sub(r"\1no", text)


@lru_cache(maxsize=4096)
def _meaning(found: str, rules: _Rules) -> str:
    """The English of what a word with an open part matched."""
    for word, english in rules.english.items():
        if ("_" in word or "~" in word) and re.fullmatch(_alternatives([word], apart=False), found, re.I):
            return english
    return found


_HALF = re.compile(r"\b(\d{1,9})((?:\s[^\W\d]{1,20})?)\sand half\b")
_UNIT_AND_HALF = re.compile(r"(?<![\d\s])\s*(متر|метр|ميل|میٹر)\s+and half\b")
_LONE_NOT = re.compile(r"((?:\A|[\ue000-\ue002.,;:!?\n])\s*)not(?=\s*(?:[\ue001.,;!?\n]|\Z))")


def _half_more(text: str) -> str:
    return re.sub(r"साढ़े\s+(\d{1,9})", r"\1.5", text)


def _in_digits(words: str, values: dict[str, float]) -> str:
    """Number words as digits; those that do not go together stay apart: "dos tres" is "2 3"."""
    tokens = re.findall(_alternatives(list(values), apart=False), words, re.I)
    groups: list[float] = []
    for token in tokens:
        value = values[re.sub(r"\s+", " ", token.lower())]
        last = groups[-1] if groups else 0
        if groups and value in (100, 1000) and 1 < last < value:
            groups[-1] = last * value
        elif groups and (
            (last < 10 and 20 <= value < 100 and value % 10 == 0 and "و" in words)
            or (last % 10 == 0 and 20 <= last < 100 and value < (20 if last in (60, 80) else 10))
            or (last % 100 == 0 and last >= 100 and value < 100)
            or (last % 1000 == 0 and last >= 1000 and value < 1000)
        ):
            groups[-1] = last + value
        else:
            groups.append(value)
    return " " + " ".join(f"{value:g}" for value in groups) + " "


# ---- Chinese and Japanese

_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_PLACES = {"十": 10, "百": 100, "千": 1000, "万": 10_000}
_COUNTERS = (
    "个個把张張只隻条條台臺位名件本块塊盏盞扇棵辆輛座间間层層根支朵幅副双雙匹头頭颗片面杯碗瓶箱套米厘毫公平立英尺寸岁"
    "度倍种種次处處株架艘枚脚つ人冊羽足階回歳メセキミ"
)
_SIGNS = "".join((*_DIGITS, *_PLACES))
_NUMERAL = re.compile(
    rf"(?<![第几數数同另每唯{_SIGNS}])(?P<whole>[{_SIGNS}]{{1,12}})(?:点(?P<decimals>[{_SIGNS}]{{1,9}}))?(?=半?[{_COUNTERS}\s到至~〜-]|[\ue001,.;:!?。，、；：！？）)]|$)(?!张图|枚の画)",
    re.M,
)
_ORDINAL = re.compile(rf"第\s?[\d{_SIGNS}]{{1,9}}|[\d{_SIGNS}]{{1,9}}\s?(?:番目|つ目|人目)")
_NOT_A_SINGLE = re.compile(r"一[^\s，。]{1,8}(?:也没有|都没有|もありません)")
_LONE_YES = re.compile(r"((?:\A|[\ue000-\ue002。，,：:；\s]))[对是真](?=\s*(?:[\ue001。，,！!；]|\Z))")
_HAI = re.compile(r"(?:はい|いいえ)(?=[\ue001、。，．,.!！\s]|です|と(?:いいえ|はい)|かもしれ|$)")
_METRES = re.compile(r"(\d{1,4})\s?米\s?(\d{1,2})(?!\d|\s?[厘分])")


def _han(text: str) -> str:
    """Chinese, or Japanese where there is kana, in English words and digits."""
    text = _ORDINAL.sub(" ordinal ", _NOT_A_SINGLE.sub(" there are no ", text))
    language = LANGUAGES["Japanese"] if re.search(f"[{_KANA}]", text) else LANGUAGES["Chinese"]
    rules = _rules(language)
    if rules.numbers:
        text = rules.numbers.sub(lambda match: _in_digits(match[1], rules.values), text)
    text = re.sub(r"([一二三四五六七八九两\d])\s?米([一二三四五六七八九])(?=[\s。，.!]|$)", r"\1点\2米", text)
    text = re.sub(r"([一二三四五六七八九十两\d]{1,3})\s?(公里|厘米|小时|米|个)半", r"\1点五\2", text)
    text = re.sub(r"(\d)点五", r"\1.5", re.sub(r"(?<=[A-Z])(?:です|である)", " ", text))
    text = _NUMERAL.sub(_numeral, text)
    text = _HAI.sub(lambda match: " yes " if match[0] == "はい" else " no ", text)
    text = rules.pattern.sub(lambda match: f" {rules.english[match[0]]} ", _LONE_YES.sub(r"\1 yes ", text))
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = _LONE_NOT.sub(r"\1no", re.sub(r"\bis\s+is\b", "is", text.translate(_STOPS)))
    return _METRES.sub(
        lambda match: f"{match[1]}.{match[2]} ",
        text.replace("点", ".") if re.search(r"\d\s?点\s?\d", text) else text,
    )


def _numeral(match: re.Match) -> str:
    total = group = 0
    fits = True
    for sign in match["whole"]:
        if sign in _DIGITS:
            fits &= group == 0
            group = _DIGITS[sign]
        elif sign == "万":
            total, group = (total + group) * 10_000, 0
        else:
            total, group = total + max(group, 1) * _PLACES[sign], 0
    if not fits and not all(sign in _DIGITS for sign in match["whole"]):
        return match[0]
    if not fits:
        return " " + " ".join(str(_DIGITS[sign]) for sign in match["whole"]) + " "
    decimals = "".join(str(_DIGITS[sign]) for sign in match["decimals"] or "")
    return f" {total + group}{'.' * bool(decimals)}{decimals} "
