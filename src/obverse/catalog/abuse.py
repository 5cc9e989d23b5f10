"""Whether a text is fit to be shown in front of every prompt: a coarse check for abusive language in English.

Three signs, each on its own enough to leave a text out: the categories of its task, words by which a task's definition
or name announces that abuse is its subject (`announces_abuse`), and swear words, insults and slurs in the text itself
(`holds_abuse`). The last are kept as hashes, so that nobody has to read them here and no search finds them; a word is
compared by the hash of its plain form. It errs on the side of leaving out, which costs nothing where there are many
other texts, and it knows words, not meanings: read what it lets pass.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CATEGORIES = ("Toxic Language Detection",)
"""Categories of Super-NaturalInstructions whose texts are abusive by design."""

_WORDS = Path(__file__).parent / "demonstrations" / "abusive_words.sha256"
# Names run words together, so most of these are looked for anywhere; those that stand inside harmless words, such as
# "whatever" and "intoxicated", have to begin one.
_SUBJECTS = re.compile(
    r"abuse|abusive|offens[ei]|hateful|obscen|profan|sexis[tm]|racis[tm]|harass|misogyn|insult|civil_comments|jigsaw"
    r"|(?<![a-z])(hate|toxi|slurs?(?![a-z])|bully|sbic|swear)"
)
_DISGUISES = str.maketrans("@40$5!1|3", "aaossiiie")
_DISGUISED = re.compile(r"[^\W_]*[@40$5!1|3][^\s.,;:?\"()]*")
_MASKED = re.compile(r"(?<![^\W\d_])[^\W\d_]+\*+[^\W\d_]+")
_WORD = re.compile(r"[^\W\d_]+")
_ENDINGS = ("", "s", "es", "ed", "er", "ers", "ing", "in", "y")
_HASH_CHARACTERS = 16


def announces_abuse(text: str) -> bool:
    """Whether a definition or the name of a task says that it is about abusive language."""
    return _SUBJECTS.search(text.casefold()) is not None


def holds_abuse(text: str) -> bool:
    """Whether a listed word stands in the text: inflected, stretched, accented, disguised by digits, or starred out."""
    plain = _plain(text)
    # Somebody who stars letters out has written the word.
    if any(len(found.group()) > 3 for found in _MASKED.finditer(plain)):
        return True
    known = _hashes()
    return any(word_hash(form) in known for word in _words(plain) for form in _forms(word))


def word_hash(word: str) -> str:
    """Under what a word is listed: the first 16 hexadecimal digits of a SHA-256, of the word in lower case."""
    return hashlib.sha256(f"abusive:{word}".encode()).hexdigest()[:_HASH_CHARACTERS]


@cache
def _hashes() -> frozenset[str]:
    lines = _WORDS.read_text(encoding="ascii").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _plain(text: str) -> str:
    """Lower case without accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in apart if not unicodedata.combining(character))


def _words(plain: str) -> Iterator[str]:
    yield from _WORD.findall(plain)
    for found in _DISGUISED.finditer(plain):
        if _WORD.search(found.group()):  # a number alone is no word
            yield from _WORD.findall(found.group().translate(_DISGUISES))


def _forms(word: str) -> Iterator[str]:
    """What the word may be a form of."""
    # A letter said at length counts once or twice; words have it no more often than that.
    stretched = dict.fromkeys((re.sub(r"(.)\1{2,}", r"\1\1", word), re.sub(r"(.)\1{2,}", r"\1", word)))
    for whole in stretched:
        for ending in _ENDINGS:
            stem = whole.removesuffix(ending)
            if len(stem) < 3 or (ending and stem == whole):
                continue
            yield stem
            if ending and stem[-1] == stem[-2]:  # as in "running"
                yield stem[:-1]
