"""Words and endings of the two languages of the translation grammar.

The source language reads like plain English. The target language, Velmari, is invented: nouns have three genders and six cases,
adjectives and past-tense verbs agree, definiteness is an ending. Several source words mean two things (a bat is an animal or a
tool), told apart only by the words around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Meaning(StrEnum):
    """What kind of thing a noun names; verbs and adjectives choose by it."""

    PERSON = "person"
    ANIMAL = "animal"
    PLACE = "place"
    TOOL = "tool"
    FOOD = "food"
    TEXT = "text"


class Case(StrEnum):
    """Cases of Velmari."""

    NOMINATIVE = "nominative"
    ACCUSATIVE = "accusative"
    GENITIVE = "genitive"
    DATIVE = "dative"
    LOCATIVE = "locative"
    INSTRUMENTAL = "instrumental"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """One sense of a noun. ``gender`` 0, 1 or 2 chooses its declension."""

    singular: str
    plural: str
    meaning: Meaning
    gender: int
    stem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjective:
    """One sense of an adjective, for nouns of these meanings."""

    word: str
    meanings: frozenset[Meaning]
    stem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One sense of a verb. ``objects`` is empty for an intransitive one."""

    base: str
    third: str
    past: str
    subjects: frozenset[Meaning]
    objects: frozenset[Meaning]
    stem: str


_LETTERS = {
    "p": Meaning.PERSON,
    "a": Meaning.ANIMAL,
    "l": Meaning.PLACE,
    "t": Meaning.TOOL,
    "f": Meaning.FOOD,
    "x": Meaning.TEXT,
}

_NOUNS = """
teacher teachers p 0 dorval | doctor doctors p 1 medin
farmer farmers p 0 agrat | child children p 2 pilun | woman women p 1 feral
man men p 0 homar | sailor sailors p 0 naveg | neighbour neighbours p 1 visken | king kings p 0 reznar | queen queens p 1 rezel
dog dogs a 0 kanur | cat cats a 1 misel | horse horses a 0 ekvor
bird birds a 2 avil | cow cows a 1 boven | wolf wolves a 0 lupark
bat bats a 1 nokvel | seal seals a 2 fokun | crane cranes a 1 grulen
mouse mice a 2 musik | kid kids a 0 kaprel | kid kids p 2 infar
house houses l 2 domun | garden gardens l 1 hortel
village villages l 0 vikor | school schools l 1 skolen | river rivers l 0 rivar
market markets l 2 foril | tower towers l 0 turok | island islands l 1 nesel
hammer hammers t 0 malvor | knife knives t 1 kutel | lamp lamps t 1 lumen | wheel wheels t 2 rotun | rope ropes t 0 kordar
bat bats t 0 klubor | seal seals t 1 sigel | crane cranes t 0 gruvik | mouse mice t 1 klikel | boat boats t 2 barkun
apple apples f 2 pomun | loaf loaves f 0 panor | cheese cheeses f 1 kasel | date dates f 1 daktel | soup soups f 1 supen
book books x 0 librok | letter letters x 1 epistel | map maps x 2 kartun | song songs x 1 kanten | date dates x 2 termin
"""

_ADJECTIVES = """
big paltfx grand | small paltfx minut | old paltfx veter
young pa juven | red altfx rubes | white altfx blank | black altfx nigor
good pafx bonal | bad pafx malov | happy pa felik | new ltfx novar | beautiful palx belun
light tfx levit | light al klarin | hard tf durek | hard x difik | sharp t akut | sharp pa sagik | strange palx mirov
"""

_VERBS = """
see sees saw pa paltfx vid | find finds found pa paltfx trov | feed feeds fed p a nutr | chase chases chased a a venat
repair repairs repaired p t repar | eat eats ate pa f edum | write writes wrote p x skrib | read reads read p x legum
know knows knew p p konar | know knows knew p lx sapin | take takes took p pa duktar | take takes took p tfx prenok
draw draws drew p pal pikt | draw draws drew p t tirak | call calls called p pa vokar | buy buys bought p atfx kompal
sell sells sold p atfx vendor | love loves loved p pa amirel | love loves loved p lfx plakin | lift lifts lifted p tf elevar
miss misses missed p p deskar | miss misses missed p lx preter | visit visits visited p pl vizan | hear hears heard pa pa audin
sleep sleeps slept pa - dormin | wait waits waited pa - espekt | sing sings sang p - kantar | sing sings sang a - gorjun
work works worked p - labor | work works worked t - funkin | run runs ran pa - kurok | run runs ran t - girav
fall falls fell patf - kadin | arrive arrives arrived pa - advenik | rest rests rested p - repoz
"""


def _meanings(letters: str) -> frozenset[Meaning]:
    return frozenset(_LETTERS[letter] for letter in letters if letter != "-")


def _entries(table: str) -> list[list[str]]:
    return [entry.split() for line in table.strip().split("\n") for entry in line.split("|")]


NOUNS = tuple(
    Noun(singular=one, plural=many, meaning=_LETTERS[letter], gender=int(gender), stem=stem)
    for one, many, letter, gender, stem in _entries(_NOUNS)
)
ADJECTIVES = tuple(Adjective(word=word, meanings=_meanings(letters), stem=stem) for word, letters, stem in _entries(_ADJECTIVES))
VERBS = tuple(
    Verb(base=base, third=third, past=past, subjects=_meanings(subjects), objects=_meanings(objects), stem=stem)
    for base, third, past, subjects, objects, stem in _entries(_VERBS)
)
GIVE = Verb(
    base="give", third="gives", past="gave", subjects=_meanings("p"), objects=_meanings("tfx"), stem="donar"
)  # the only verb with a receiver

NOUN_ENDINGS: dict[Case, tuple[tuple[str, str], ...]] = {
    # case: per gender (singular, plural)
    Case.NOMINATIVE: (("", "i"), ("a", "e"), ("o", "u")),
    Case.ACCUSATIVE: (("em", "is"), ("am", "es"), ("om", "us")),
    Case.GENITIVE: (("ev", "iv"), ("av", "eva"), ("ov", "uv")),
    Case.DATIVE: (("ek", "ik"), ("ak", "eka"), ("ok", "uk")),
    Case.LOCATIVE: (("esh", "ish"), ("ash", "esha"), ("osh", "ush")),
    Case.INSTRUMENTAL: (("el", "il"), ("al", "ela"), ("ol", "ul")),
}
DEFINITE_ENDING = "r"
DEFINITE_LINK = "t"  # between a consonant and the definite ending

ADJECTIVE_ENDINGS: dict[Case, tuple[tuple[str, str], ...]] = {
    Case.NOMINATIVE: (("y", "yi"), ("ya", "ye"), ("yo", "yu")),
    Case.ACCUSATIVE: (("ym", "yis"), ("yam", "yes"), ("yom", "yus")),
    Case.GENITIVE: (("yn", "yin"), ("yan", "yen"), ("yon", "yun")),  # and every other case
}
RELATIVE_PRONOUNS: dict[Case, tuple[tuple[str, str], ...]] = {
    Case.NOMINATIVE: (("ku", "kui"), ("kua", "kue"), ("kuo", "kuu")),
    Case.ACCUSATIVE: (("kum", "kuis"), ("kuam", "kues"), ("kuom", "kuus")),
}

PRESENT_ENDINGS = (("im", "omi"), ("it", "ote"), ("is", "onti"))  # per person (singular, plural)
PAST_ENDINGS = (("elor", "elar", "elir"), "eloni")  # singular per gender, plural
FUTURE_WORDS = (("bum", "bumi"), ("but", "bute"), ("bus", "bunti"))
INFINITIVE_ENDING = "ane"

NUMERALS = (("two", "dua"), ("three", "tria"), ("five", "penta"), ("seven", "hepta"))

# source subject, source object, person (0 to 2), plural, gender of the past tense, target subject, target object
PRONOUNS = (
    ("I", "me", 0, False, 0, "mi", "mim"),
    ("he", "him", 2, False, 0, "li", "lim"),
    ("she", "her", 2, False, 1, "la", "lam"),
    ("we", "us", 0, True, 0, "nu", "num"),
    ("they", "them", 2, True, 0, "zi", "zim"),
)

TIMES = {
    "present": (("today", "hodin"), ("often", "multas")),
    "past": (("yesterday", "hierin"), ("recently", "nuperas")),
    "future": (("tomorrow", "kras"), ("soon", "motas")),
}
