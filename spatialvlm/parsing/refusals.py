"""Refusals, doubts, offers and error messages, separated from answers: the second step of parsing.

Three degrees: where there is no image, an error or an offer, only an announced answer counts; what a text
"cannot determine" takes back all before it but an answer in so many words, and only an opinion after it
counts ("but I would say B"); what it is "not sure" of is left out, and the answer beside it counts.
"""

from __future__ import annotations

import re

_IMAGE = (
    r"(?:images?|pictures?|photos?|photographs?|videos?|frames?|files?|attachments?|screenshots?|visuals?)"
)
_CANNOT = (
    r"(?:can(?:'t|not| not)|could(?:n't| not)|am not able to|'m not able to|unable to|not able to|do(?:n't"
    r"| not)|did(?:n't| not)|won't|not possible to|impossible to|never)"
)
_ANY = (
    r"(?:(?:\d{1,3}|two|three|both|multiple|the|an?|any|your|this|that|these|actual|attached|uploaded"
    r"|provided|such|directly|physical|to|real|or|view|see|access|open|analy[sz]e|content|contents|of|in"
    r"|inspect|interpret|process)\s+){0,5}"
)

_ABSENT = re.compile(
    rf"\b(?:no|without|missing)\s+(?:an?\s+|the\s+|any\s+|valid\s+|such\s+)?{_IMAGE}\b(?!\s+(?:of|shows?"
    rf"|contains?|has|depicts))|\b{_IMAGE}\s+(?:(?:you\s+mention\w*|file|data|link|url)\s+)?(?:(?:is|was"
    rf"|were|are|has|have|does|did|could|can|may)\s*(?:not|n't)|(?:isn|wasn|weren|aren|hasn|didn|doesn"
    rf"|couldn)'t|failed|cannot|can't|seems? to be missing|(?:is|are) missing|missing)\b(?!\s+(?:show"
    rf"|contain|depict|include|have|provide|allow|match|clear|sharp))|\b{_CANNOT}\s+(?:see|view|access"
    rf"|open|process|analy[sz]e|display|load|read|interpret|look at|receive|find|perceive|have"
    rf"|have access to|get|inspect)\s+{_ANY}{_IMAGE}\b"
    rf"|\bcannot determine\s{{1,3}}(?:see\s)?{_ANY}{_IMAGE}\b"
    r"|\bno image provided\b|\bno (?:way of seeing|access to)\b|\b(?:see|have) no image\b"
    rf"|\bif you(?:'d| could| can| would)?\s+(?:please\s+)?(?:upload|describe|share|provide|send|attach"
    rf"|give|tell|show)\w*\b|\b(?:please|kindly|could you|can you|would you|once you|after you|until you"
    rf"|when you)\s+(?:please\s+|first\s+|kindly\s+)?(?:re-?)?(?:upload|provide|share|attach|send|give"
    rf"|describe|try|check|clarify|tell|specify|retry|wait|rephrase|resend|include|contact|add|show"
    rf"|paste)\b"
    r"|\bplease upload\b|\btry again\b|\bsomething went wrong\b|\b(?:just|simply) (?:attach|upload|send"
    r"|share|provide|paste)\b|\band i'?ll (?:take a look|have a look|check|help)\b|\bunexpected token\b"
    r"|\bexpecting value\b|\blink is broken\b|\((?:error\s)?[45]\d\d\)|\b(?:retries|attempts)\b"
    r"|\bretry after\b|\bupload(?:ing)? (?:the|an?|your) |\bhow (?:can|may) i\b|\bwhat would you like\b"
    r"|\bi need (?:you|to see|the image|an image|more)\b|\bas (?:an?|your) (?:ai|large|language|text"
    r"|multimodal|virtual|llm|assistant)\b|\b(?:ai|text)[- ](?:language |based )?(?:model|assistant)\b"
    r"|\blanguage model\b"
    rf"|\b{_CANNOT}\s+(?:help(?! but)|assist|comply|fulfil+|do that|do this|support|discuss|engage|share"
    rf"|provide (?:that|this|assistance)|continue|process (?:your|the|this) request)\b"
    r"|\b(?:violat\w+|against (?:my|our|the)) .{0,30}(?:polic\w+|guideline\w*|rules|terms)\b|\b(?:usage"
    r"|content|safety) (?:policy|policies|filter\w*|guidelines)\b|\bcontent_filter\b"
    r"|\bpolicy[ _]violation\b|\bblocked\b|\bflagged\b"
    # errors
    r"|(?<!margin of )(?<!by )\berror\s*(?:\]|code\b|message\b|:|\[|\(|#|\d)|\b[A-Za-z]*(?:Error"
    r"|Exception)\b(?=\s*[:(\[]|$)|\berror (?:occurred|while|when|processing|during|in (?:processing"
    r"|loading|parsing|reading|the (?:request|server)))|\b(?:an|connect|upstream|proxy|protocol|server"
    r"|internal|network|unknown|api|http|runtime|unexpected|connection|fatal|decoding|parse|parsing"
    r"|validation|gateway|client|authentication|404|500) error\b|\btraceback\b|\bstack trace\b"
    r"|\bsegmentation fault\b|\btimed?[ -]?out\b|\btimeout\b|\brate[ _-]?limit\w*|\btoo many requests\b"
    r"|\bquota\b|\b(?:http|status)(?:/\d\.\d)?\s*(?:code|error|status)?\s*[:=]?\s*[1-5]\d\d\b"
    r"|\bhttps? [1-5]\d\d\b|\b[45]\d\d\b:?\s+(?:bad|unauthori[sz]ed|forbidden|not found|internal|service"
    r"|gateway|too many|request|server|payload|unprocessable|payment)\b|\b(?:maximum|max|model'?s?|total"
    r"|input|prompt|token|sequence) (?:context|sequence|prompt|input|token)? ?(?:length|limit|window"
    r"|size)\b|\bcontext (?:length|window|limit)\b|\bmax(?:imum)?[ _](?:new_)?tokens\b|\bout of memory\b"
    r"|\bOOM\b|\bcuda\b|\bexceed(?:s|ed)\b.{0,40}\b(?:maximum|limit|length|tokens|quota|size|allowed)\b"
    r"|\b\d+\s?(?:ms|seconds?) exceeded\b|\b(?:limit|length|size|quota|deadline) exceeded\b"
    r"|\bconnection (?:refused|reset|aborted|closed|failed|lost)\b|\b(?:server|service|model|backend"
    r"|endpoint|engine) (?:is |was |has been )?(?:currently )?(?:temporarily )?(?:un(?:available"
    r"|reachable)|overloaded|busy|down|offline|not found|not available|not loaded|loading)\b"
    r"|\boverloaded\b|\bbad gateway\b|\bservice unavailable\b|\binternal server\b|\binvalid (?:request"
    r"|image|api|key|url|input|response|format|base64|token|argument|parameter|json|option|file)\b"
    r"|\bfailed to\b|\bfailure to\b|\b(?:could|can|was) ?not (?:be )?(?:load|decode|connect|parse|fetch"
    r"|download|retrieve|reach|loaded|decoded|parsed|fetched|downloaded|retrieved|processed|reached|open"
    r"|identify image file)\w*\b|\bunauthori[sz]ed\b|\bforbidden\b|\bapi[ _]key\b|\bno (?:response|output"
    r"|content|result|completion|text|reply|data|choices)(?: (?:was|were|is|has been|received|returned"
    r"|generated|available|from).*)?(?=\s*[.!]?\s*$)|\brequest(?: id)?[: ]+(?:req_|failed|aborted"
    r"|cancel+ed|rejected|denied|was)\b|\b(?:aborted|cancelled) by\b|\bsupported formats\b"
    r"|\bnot supported\b|\bunsupported\b",
    re.I | re.M,
)
_OFFER = re.compile(  # before or after an answer, or in place of one
    r"\b(?:happy|glad) to (?:help|assist|verify|check|answer)\b|\blet me know\b|\bfeel free\b"
    r"|\bhope this helps\b|\b(?:i can|i could|can i|may i|let me) (?:certainly |definitely "
    r"|surely )?(?:help|assist)\b",
    re.I,
)
_WILLING = re.compile(
    r"\W*(?:yes|sure|of course|certainly|absolutely|no problem|definitely|okay|ok)\W*", re.I
)
_ABLE_TO = (
    r"(?:determine|tell|say|answer|identify|count|judge|decide|know|verify|confirm|assess|conclude"
    r"|estimate|measure|make out|discern|choose|select|pick|give|provide|distinguish|compare|recogni[sz]e"
    r"|gauge|infer|figure out|rule out|make (?:a|an|any) \w+|see (?:enough|clearly|well"
    r"|the .{1,40} clearly|colou?rs?)|zoom|reliably|accurately|definitively|confidently|exactly|precisely"
    r"|really|truly|comment|evaluate|establish|guess|offer|respond|work out|predict|deduce|pinpoint"
    r"|specify|quantify|calculate|compute|perceive|observe)"
)
_UNABLE = re.compile(
    rf"\b(?:can(?:'t|not| not)|could(?:n't| not)|cannot|(?:am|'m|are|is|was|were) (?:not able|unable) to"
    rf"|unable to|not able to|impossible to|(?:not|isn't) possible to|(?:hard|difficult|tough|tricky"
    rf"|challenging|not easy) to|no way (?:to|of)|not enough .{{0,40}} to|won't|don't dare to"
    rf"|refuse to)\s+(?:\w+ly\s+)?{_ABLE_TO}\b|\b(?:can(?:'t|not| not)|cannot|could(?:n't"
    rf"| not)) be (?:\w+ly )?(?:determined|answered|known|told|identified|judged|counted|measured"
    rf"|estimated|verified|confirmed|seen|inferred|assessed|established|decided|ascertained|given|provided"
    rf"|concluded)\b"
    r"|\bcannot determine\b|\bnor can i\b|\bundetermined\b|\bindeterminate\b|\binconclusive\b"
    r"|\bunanswerable\b|\bundecidable\b|\b(?:do not|don't|didn't|doesn't) (?:really |actually "
    r"|even )?(?:know|have (?:enough|sufficient|any|access)|recogni[sz]e|understand)\b|\b(?:no|not any"
    r"|haven't a|not a) (?:idea|clue|information|answer|way of knowing|way to (?:know|tell|be sure))\b"
    r"|\b(?:is|are|was|remains?|seems?|it's|still|too|completely|very|entirely) (?:(?:un|not )clear"
    r"|ambiguous|unknown|impossible|uncertain|unspecified|undefined)\b|^\W*(?:unclear|unknown|ambiguous"
    r"|uncertain|undefined|unsure|unspecified)\b|\b(?:not|n't|in)\s?(?:contain |provide |show |have |give "
    r"|offer |include )?(?:enough|sufficient) (?:information|context|detail|details|evidence|data|visual"
    r"|visible)\b|\binsufficient (?:information|context|detail|evidence|data)\b|\bnot (?:specified"
    r"|applicable|available|stated|mentioned|discernible|determinable|answerable|possible)\b|\bit (?:all "
    r"|really )?depends\b|\bdepend(?:s|ing) on\b|\b(?:i|we)(?:'d| would|'ll| will)? (?:need|require"
    r"|have to see|have to know)\b|\bmore (?:information|context|details?) (?:is|are|would be)\b"
    r"|\b(?:requires?|needs?) (?:more|further|additional|a (?:closer|better|clearer))\b|\b(?:prefer"
    r"|decline|refuse) (?:not )?to (?:answer|say|respond)\b|\bi (?:must|have to) decline\b"
    r"|\bnot going to (?:answer|guess)\b|\bno comment\b|\bcannot see\b(?= enough| clearly)"
    r"|\bexact (?:\w+ )?(?:is|are) impossible\b|\A\W*pass\W*\Z",
    re.I | re.M,
)
_UNSURE = re.compile(
    r"\b(?:not|n't|never|can't be|cannot be|hard to be|difficult to be|am not"
    r"|without being)\s+(?:be\s+)?(?:(?:100|\d\d)\s?%|entirely|completely|absolutely|totally|fully|quite"
    r"|very|really|too|so|at all|all that|be|a hundred percent)?\s*(?:sure|certain|confident|positive"
    r"|precise|exact)\b|\bunsure\b|\buncertain\b|\bno (?:guarantee|certainty)\b|\b(?:hard"
    r"|difficult) to be (?:sure|certain|precise)\b|\bnot sure\b|\bcannot be (?:sure|certain|precise"
    r"|exact)\b|\bdoubt(?:ful)? (?:whether|if|that)\b|\bi doubt\b|\bnot guaranteed\b|\bcould be wrong\b"
    r"|\bmight be wrong\b|\bmay be wrong\b|\bbe mistaken\b",
    re.I,
)
_OPINION = re.compile(
    r"\b(?:but|however|nevertheless|nonetheless|still|yet|though|although|my (?:best |rough )?(?:guess"
    r"|estimate)|best (?:guess|estimate)|i(?:'d|'ll| would| will(?! not)| think| guess| believe| estimate"
    r"| say| lean)|most likely|probably|likely|maybe|perhaps|if i (?:had|have) to|if (?:forced|pressed"
    r"|pushed|asked)|answer|so my|appears|seems|looks like)\b",
    re.I,
)
_CONCEDED_BEFORE = re.compile(
    r"[,(;.–—-]?\s*\(?\b(?:but|though|although|even though|however|while)\b[^,;.]{0,60}\Z", re.I
)
_SUBORDINATE = re.compile(
    r"\s*(?:,|;|:|–|—|\(|\)|\bbut\b|\bhowever\b|\bthough\b|\byet\b|\bstill\b|\balthough\b|\bso\b)", re.I
)
_SENTENCE = re.compile(r"[^.!?;\n]+(?:[.!?;](?![\s\n]|$)[^.!?;\n]*)*[.!?;\n]*|[.!?;\n]+")
_ANSWERS_ANYWAY = re.compile(
    r"\b(?:answer|verdict|conclusion|result|choice|guess|estimate)\b[^.\n]{0,60}?(?:\b(?:is|are|was"
    r"|would be|remains|stays)\b|:|=)\s*(?P<what>\S[^\n]*)|\bi(?:'d| would)? (?:guess|go with|pick|choose"
    r"|estimate|say|bet)\b(?P<opinion>[^\n]*)",
    re.I,
)
_ASSERTS = re.compile(
    r"\W*(?:i(?:'d| would)? (?:think|say|see|count|guess|believe|estimate)|it(?:'s| is)|there (?:are|is)"
    r"|yes,|no,)\b(?![^.\n]*\b(?:might|may|could|possibly)\b)",
    re.I,
)
_BARE = re.compile(
    r"\W*(?:(?:about|roughly|approximately|around|maybe|probably|it(?:'s| is)|option|answer:?"
    r"|the)\s+)*\(?(?!no\b|yes\b|sorry\b|well\b|hmm\b|sure\b|i\b)[\w.,/%]+\)?(?:\s+[a-z]{1,12})?\W*",
    re.I,
)


def declines(text: str) -> bool:
    """Whether a text is nothing but a refusal or a doubt, as "Cannot be determined" is."""
    return bool(re.search(r"\w", text)) and not re.search(r"\w", answering(text))


def answering(text: str) -> str:
    """What a plain English text still says once its refusals, doubts, offers and error messages are out."""
    if not any(kind.search(text) for kind in (_ABSENT, _UNABLE, _UNSURE, _OFFER)):
        return text
    kept: list[str] = []
    absent = False
    after_doubt = False
    for sentence in _SENTENCE.findall(text):
        if _ABSENT.search(sentence):
            kept, absent = [piece for piece in kept if _ANSWERS_ANYWAY.search(piece)], True
            rest = _opinion_after(sentence, _last_end(_ABSENT, sentence))
            if rest and _ANSWERS_ANYWAY.search(rest):
                kept.append(rest)
        elif _OFFER.search(sentence):
            if kept and _WILLING.fullmatch(kept[-1]):
                kept.pop()
            if (answer := _ANSWERS_ANYWAY.search(sentence)) and not absent:
                kept.append(answer[0])
        elif doubt := _UNABLE.search(sentence):
            kept = [piece for piece in kept if _ANSWERS_ANYWAY.search(piece) or _BARE.fullmatch(piece)]
            if (conceded := _CONCEDED_BEFORE.search(sentence, 0, doubt.start())) and not absent:
                before = sentence[: conceded.start()]
                if _BARE.fullmatch(before) or _ANSWERS_ANYWAY.search(before) or _ASSERTS.match(before):
                    kept.append(before)
            rest = _opinion_after(sentence, _last_end(_UNABLE, sentence))
            if rest and (not absent or _ANSWERS_ANYWAY.search(rest)):
                kept.append(rest)
            after_doubt = not rest
        elif absent or after_doubt:
            if (
                _ANSWERS_ANYWAY.search(sentence)
                or (not absent and _OPINION.search(sentence))
                or (not absent and _BARE.fullmatch(sentence))
            ):
                kept.append(sentence)
        elif doubt := _UNSURE.search(sentence):
            kept.append(_without_clause(sentence, doubt))
        else:
            kept.append(sentence)
    return "".join(kept)


def _last_end(pattern: re.Pattern, text: str) -> int:
    return max(match.end() for match in pattern.finditer(text))


def _opinion_after(sentence: str, end: int) -> str:
    opinion = _OPINION.search(sentence, end)
    return sentence[opinion.start() :] if opinion else ""


def _without_clause(sentence: str, doubt: re.Match) -> str:
    """A sentence without the clause of a doubt: from the pause before it to the one after."""
    start = max((sentence.rfind(mark, 0, doubt.start()) for mark in ",;:(–—"), default=-1) + 1
    pause = _SUBORDINATE.search(sentence, doubt.end())
    return sentence[:start] + (sentence[pause.start() :] if pause else "\n")
