"""A seeded grammar that writes sentence pairs in two languages (see ``grammar_words``), with the template of each.

A template is the structure of a sentence without its words: clause, tense, polarity, mood, shapes of the noun phrases,
adverbials. Templates are held out whole, so that a held-out sentence has a structure that was never trained on, only its parts
were.

What a word-by-word lexicon cannot do here: word order (verb last in statements, first in questions, before the subject after a
time adverb; adjectives after the noun; reasons before what they explain), case and definiteness as endings, agreement of
adjectives and past tenses over any distance, and words whose sense depends on their neighbours.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from workers.data.grammar_words import (
    ADJECTIVE_ENDINGS,
    ADJECTIVES,
    DEFINITE_ENDING,
    DEFINITE_LINK,
    FUTURE_WORDS,
    GIVE,
    INFINITIVE_ENDING,
    NOUN_ENDINGS,
    NOUNS,
    NUMERALS,
    PAST_ENDINGS,
    PRESENT_ENDINGS,
    PRONOUNS,
    RELATIVE_PRONOUNS,
    TIMES,
    VERBS,
    Case,
    Meaning,
    Noun,
    Verb,
)

T = TypeVar("T")

CLAUSES = ("intransitive", "transitive", "transitive", "transitive", "give", "and", "because", "when")
SUBJECT_SHAPES = ("pronoun", "plain", "plain", "adjective", "numeral", "owner", "subject-relative", "object-relative")
OBJECT_SHAPES = ("pronoun", "plain", "plain", "adjective", "two-adjectives", "numeral", "owner")
SHORT_SHAPES = ("pronoun", "plain", "adjective")
ADVERBIALS = ("none", "none", "time", "place-in", "place-near", "place-from", "instrument")
TENSES = ("present", "past", "future")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClauseTemplate:
    """Structure of one clause."""

    verb: str
    subject: str
    object: str = ""
    tense: str = "present"
    negated: bool = False
    question: bool = False
    adverbial: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Structure of a sentence: one clause, or two joined by ``join``."""

    main: ClauseTemplate
    join: str = ""
    second: ClauseTemplate | None = None

    def signature(self) -> str:
        """Text that is equal for equal structures alone."""
        return "/".join([_clause_signature(self.main), self.join, _clause_signature(self.second) if self.second else ""])


@dataclass(frozen=True, slots=True, kw_only=True)
class SentencePair:
    """A sentence and its translation as words, and the signature of its template."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A noun phrase with what others agree with. ``target`` gives its Velmari words in a case."""

    source: tuple[str, ...]
    target: Callable[[Case], tuple[str, ...]]
    person: int = 2
    plural: bool = False
    gender: int = 0
    source_object: tuple[str, ...] | None = None
    is_pronoun: bool = False


class Writer:
    """Writes one sentence pair from one stream of random numbers."""

    def __init__(self, seed: int, index: int) -> None:
        digest = hashlib.sha256(f"{seed}\0sentence\0{index}".encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - no secret, and its stream is guaranteed

    def pair(self) -> SentencePair:
        """A pair with a template of its own choice."""
        template = self.template()
        source, target = self.sentence(template)
        return SentencePair(source=source, target=target, template=template.signature())

    def choice(self, options: Sequence[T]) -> T:
        """One of the options. ``random()`` alone is used: its sequence is the same in every Python."""
        return options[int(self._random.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self._random.random() < probability

    def template(self) -> Template:
        """A random structure; sentences of two clauses have simple phrases, to bound their length."""
        clause = self.choice(CLAUSES)
        if clause in ("and", "because", "when"):
            return Template(main=self._short_clause(), join=clause, second=self._short_clause())
        subject = self.choice(SUBJECT_SHAPES)
        adverbial = self.choice(ADVERBIALS if clause == "transitive" else ADVERBIALS[:-1])
        main = ClauseTemplate(
            verb=clause,
            subject=subject,
            object="" if clause == "intransitive" else self.choice(OBJECT_SHAPES[1:] if clause == "give" else OBJECT_SHAPES),
            tense=self.choice(TENSES),
            negated=self.chance(0.25),
            question=self.chance(0.2),
            adverbial=adverbial,
        )
        return Template(main=main)

    def _short_clause(self) -> ClauseTemplate:
        verb = self.choice(("intransitive", "transitive"))
        return ClauseTemplate(
            verb=verb,
            subject=self.choice(SHORT_SHAPES),
            object="" if verb == "intransitive" else self.choice(SHORT_SHAPES),
            tense=self.choice(TENSES),
            negated=self.chance(0.25),
        )

    def sentence(self, template: Template) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Both sentences of a structure, with words of this writer's choice."""
        source, target = self._clause(template.main, verb_last=False)
        if template.second is not None:
            second_source, second_target = self._clause(template.second, verb_last=template.join != "and")
            source = (*source, template.join, *second_source)
            if template.join == "and":
                target = (*target, "ki", *second_target)
            else:  # the reason or the time comes first, its word after it
                target = (*second_target, {"because": "dar", "when": "sil"}[template.join], ",", *target)
        mark = "?" if template.main.question else "."
        return (*source, mark), (*target, mark)

    def _clause(self, template: ClauseTemplate, *, verb_last: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        verb = GIVE if template.verb == "give" else self._verb(template)
        subject = self._phrase(template.subject, verb.subjects, _slot(verb, "subjects"))
        source_middle: tuple[str, ...] = ()
        target_middle: tuple[str, ...] = ()
        clitic: tuple[str, ...] = ()
        if template.object:
            thing = self._phrase(template.object, verb.objects, _slot(verb, "objects"))
            source_middle = thing.source_object or thing.source
            target_middle = thing.target(Case.ACCUSATIVE)
            if thing.is_pronoun:
                clitic, target_middle = target_middle, ()
        if template.verb == "give":
            persons = frozenset({Meaning.PERSON})
            receiver = self._phrase("plain", persons, persons)
            source_middle += ("to", *receiver.source)
            target_middle = receiver.target(Case.DATIVE) + target_middle
        time, place = self._adverbial(template)
        source = _source_order(template, subject, verb, source_middle + place[0] + time[0])
        verb_words = clitic + _target_verb(verb, subject, template)
        middle = target_middle + place[1]
        subject_words = subject.target(Case.NOMINATIVE)
        if template.question:
            target = time[1] + verb_words + ("chi",) + subject_words + middle
        elif time[1] and not verb_last:
            target = time[1] + verb_words + subject_words + middle
        else:
            target = time[1] + subject_words + middle + verb_words
        return source, target

    def _verb(self, template: ClauseTemplate) -> Verb:
        wants_object = template.verb == "transitive"
        pronouns = "pronoun" in (template.subject, template.object) or template.subject == "object-relative"
        fitting = [
            verb
            for verb in VERBS
            if bool(verb.objects) == wants_object
            and not (template.object == "pronoun" and Meaning.PERSON not in verb.objects)
            and not (pronouns and Meaning.PERSON not in verb.subjects)
        ]
        return self.choice(fitting)

    def _phrase(self, shape: str, meanings: frozenset[Meaning], slot: frozenset[Meaning]) -> Phrase:
        """A phrase of these meanings; ``slot`` is all that a reader, who sees words and not senses, could expect there."""
        if shape == "pronoun":
            return self._pronoun()
        plural = shape == "numeral" or self.chance(0.35)
        # The definite article is the more frequent, and a numeral has none.
        definite = shape != "numeral" and self.chance(0.6)
        noun = self.choice(_unmistakable(meanings, slot))
        number = self.choice(NUMERALS) if shape == "numeral" else None
        adjectives = self._adjectives(noun, {"adjective": 1, "two-adjectives": 2}.get(shape, 0))
        phrase = _noun_phrase(noun, adjectives, number=number, plural=plural, definite=definite)
        if shape == "owner":
            owner = self.choice([noun for noun in NOUNS if noun.meaning is Meaning.PERSON and noun.singular != "kid"])
            return _owned(noun, owner, plural=plural)
        if shape.endswith("relative"):
            return self._relative(phrase, noun, shape)
        return phrase

    def _pronoun(self) -> Phrase:
        subject, thing, person, plural, gender, target, target_object = self.choice(PRONOUNS)
        return Phrase(
            source=(subject,),
            target=lambda case: (target if case is Case.NOMINATIVE else target_object,),
            person=person,
            plural=plural,
            gender=gender,
            source_object=(thing,),
            is_pronoun=True,
        )

    def _adjectives(self, noun: Noun, count: int) -> list[tuple[str, str]]:
        chosen: list[tuple[str, str]] = []
        while len(chosen) < count:
            adjective = self.choice([adjective for adjective in ADJECTIVES if noun.meaning in adjective.meanings])
            if (adjective.word, adjective.stem) not in chosen:
                chosen.append((adjective.word, adjective.stem))
        return chosen

    def _adverbial(self, template: ClauseTemplate) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
        nothing: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        kind = template.adverbial
        if kind == "none":
            return nothing, nothing
        if kind == "time":
            source, target = self.choice(TIMES[template.tense])
            return ((source,), (target,)), nothing
        tools = frozenset({Meaning.TOOL})
        meanings = tools if kind == "instrument" else frozenset({Meaning.PLACE})
        noun = self.choice([noun for noun in NOUNS if noun.meaning in meanings and len(_senses(noun.singular)) == 1])
        phrase = _noun_phrase(noun, [], number=None, plural=False, definite=self.chance(0.6))
        word, case, after = {
            "instrument": ("with", Case.INSTRUMENTAL, ()),
            "place-in": ("in", Case.LOCATIVE, ()),
            "place-near": ("near", Case.GENITIVE, ("apo",)),
            "place-from": ("from", Case.GENITIVE, ("eks",)),
        }[kind]
        return nothing, ((word, *phrase.source), (*phrase.target(case), *after))

    def _relative(self, head: Phrase, noun: Noun, shape: str) -> Phrase:
        if shape == "subject-relative":
            fitting = [verb for verb in VERBS if verb.objects and noun.meaning in verb.subjects]
            if not fitting:  # only living things do something to others
                return head
            verb = self.choice(fitting)
            other = self._phrase("plain", verb.objects, _slot(verb, "objects"))
            clause = ClauseTemplate(verb="transitive", subject="plain")
            source = ("that", *_source_order(clause, replace(head, source=()), verb, other.source))
            inner = (*other.target(Case.ACCUSATIVE), *_target_verb(verb, head, clause))
            case = Case.NOMINATIVE
        else:
            fitting = [verb for verb in VERBS if noun.meaning in verb.objects and Meaning.PERSON in verb.subjects]
            verb = self.choice(fitting)
            other = self._phrase("plain", verb.subjects, _slot(verb, "subjects"))
            clause = ClauseTemplate(verb="transitive", subject="plain")
            source = ("that", *_source_order(clause, other, verb, ()))
            inner = (*other.target(Case.NOMINATIVE), *_target_verb(verb, other, clause))
            case = Case.ACCUSATIVE
        pronoun = RELATIVE_PRONOUNS[case][head.gender][int(head.plural)]
        return replace(head, source=(*head.source, *source), target=lambda outer: (*head.target(outer), pronoun, *inner, ","))


def _clause_signature(clause: ClauseTemplate) -> str:
    marks = ("not " if clause.negated else "") + ("question " if clause.question else "")
    return f"{clause.verb} {clause.subject}>{clause.object} {marks}{clause.tense} {clause.adverbial}"


@cache
def _senses(word: str) -> tuple[Noun, ...]:
    return tuple(noun for noun in NOUNS if noun.singular == word)


@cache
def _slot(verb: Verb, part: str) -> frozenset[Meaning]:
    """Meanings that the subjects or objects of any sense of this verb's word have."""
    senses = (
        (GIVE,)
        if verb is GIVE
        else tuple(other for other in VERBS if other.base == verb.base and bool(other.objects) == bool(verb.objects))
    )
    return frozenset().union(*(sense.subjects if part == "subjects" else sense.objects for sense in senses))


@cache
def _unmistakable(meanings: frozenset[Meaning], slot: frozenset[Meaning]) -> tuple[Noun, ...]:
    """Nouns of these meanings whose word has no second sense among those of the slot."""
    return tuple(
        noun for noun in NOUNS if noun.meaning in meanings and sum(sense.meaning in slot for sense in _senses(noun.singular)) == 1
    )


def _noun_phrase(
    noun: Noun, adjectives: list[tuple[str, str]], *, number: tuple[str, str] | None, plural: bool, definite: bool
) -> Phrase:
    word = noun.plural if plural else noun.singular
    words = (*(source for source, _ in adjectives), word)
    source = (number[0], *words) if number else (*_article(words[0], plural=plural, definite=definite), *words)

    def target(case: Case) -> tuple[str, ...]:
        if number is not None:  # numerals take the genitive singular
            return (number[1], _noun_form(noun, Case.GENITIVE, plural=False, definite=False))
        agreeing = case if case in ADJECTIVE_ENDINGS else Case.GENITIVE
        ending = ADJECTIVE_ENDINGS[agreeing][noun.gender][int(plural)]
        head = _noun_form(noun, case, plural=plural, definite=definite)
        return (head, *(stem + ending for _, stem in reversed(adjectives)))

    return Phrase(source=source, target=target, plural=plural, gender=noun.gender)


def _owned(noun: Noun, owner: Noun, *, plural: bool) -> Phrase:
    """``the teacher 's dog``: the owner follows in the genitive."""
    word = noun.plural if plural else noun.singular
    owner_form = _noun_form(owner, Case.GENITIVE, plural=False, definite=True)
    return Phrase(
        source=("the", owner.singular, "'s", word),
        target=lambda case: (_noun_form(noun, case, plural=plural, definite=False), owner_form),
        plural=plural,
        gender=noun.gender,
    )


def _article(following: str, *, plural: bool, definite: bool) -> tuple[str, ...]:
    if definite:
        return ("the",)
    if plural:
        return ()
    return ("an",) if following[0] in "aeio" else ("a",)


def _noun_form(noun: Noun, case: Case, *, plural: bool, definite: bool) -> str:
    form = noun.stem + NOUN_ENDINGS[case][noun.gender][int(plural)]
    if not definite:
        return form
    return form + (DEFINITE_ENDING if form[-1] in "aeiou" else DEFINITE_LINK + "e" + DEFINITE_ENDING)


def _source_order(template: ClauseTemplate, subject: Phrase, verb: Verb, rest: tuple[str, ...]) -> tuple[str, ...]:
    third = subject.person == 2 and not subject.plural
    helper = {"present": "does" if third else "do", "past": "did", "future": "will"}[template.tense]
    negation = ("not",) if template.negated else ()
    if template.question:
        return (helper, *subject.source, *negation, verb.base, *rest)
    if template.negated or template.tense == "future":
        return (*subject.source, helper, *negation, verb.base, *rest)
    form = verb.past if template.tense == "past" else verb.third if third else verb.base
    return (*subject.source, form, *rest)


def _target_verb(verb: Verb, subject: Phrase, template: ClauseTemplate) -> tuple[str, ...]:
    number = int(subject.plural)
    if template.tense == "present":
        words: tuple[str, ...] = (verb.stem + PRESENT_ENDINGS[subject.person][number],)
    elif template.tense == "past":
        singular, plural = PAST_ENDINGS
        words = (verb.stem + (plural if subject.plural else singular[subject.gender]),)
    else:
        words = (verb.stem + INFINITIVE_ENDING, FUTURE_WORDS[subject.person][number])
    return ("ne", *words, "mik") if template.negated else words
