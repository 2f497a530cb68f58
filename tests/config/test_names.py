"""Names from outside as text and as parts of a path."""

from __future__ import annotations

import hashlib
import os
import random
import re
import string

import pytest

from fcdd_sweep.config.names import cut_to_bytes, is_text, printable, slug


def ascii_slug(text: str) -> str:
    """The names of folders that runs have had since the first version, for ASCII."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")
    return plain if plain == text else f"{plain or 'x'}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def test_the_slugs_of_ascii_names_are_those_of_earlier_runs():
    rng = random.Random(0)
    texts = ["".join(rng.choices(string.printable, k=rng.randint(0, 12))) for _ in range(2000)]
    texts += ["bottle", "t-shirt/top", "0.001", "..", "-1", "", " ", "a" * 248, "two words " * 20]
    assert {text: slug(text) for text in texts} == {text: ascii_slug(text) for text in texts}


@pytest.mark.parametrize("name", ["零件", "größe", "Überzug_2", "деталь", "부품", "हिन्दी", "قطعة", "🔩", "a零.b-c"])
def test_letters_and_digits_of_every_script_stay_as_they_are(name):
    assert slug(name) == name


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("Schraube groß", "Schraube-groß-"),
        ("gru\u0308n", "grün-"),
        ("a/b\\c", "a-b-c-"),
        ("zwei\nzeilen", "zwei-zeilen-"),
        (os.fsdecode(b"gr\xfcn"), "gr-n-"),
        ("=limit", "limit-"),
        ("零\uff1d件", "零-件-"),  # a wide equals sign
        ("\u2028", "x-"),
    ],
)
def test_what_no_path_should_have_is_replaced_and_a_suffix_keeps_names_apart(text, beginning):
    assert re.fullmatch(re.escape(beginning) + "[0-9a-f]{6}", slug(text))


@pytest.mark.parametrize("text", ["x" * 249, "零" * 83, "ß" * 200, "🔩" * 100, "a b" * 100])
def test_a_slug_fits_into_the_name_of_a_folder(text):
    assert len(f"normal_{slug(text)}".encode()) <= 255
    assert slug(text) != slug(text + "y") and slug(text)[:20] == slug(text + "y")[:20]


def test_different_names_have_different_slugs():
    names = ["grün", "gru\u0308n", "gr n", "gr-n", os.fsdecode(b"gr\xfcn"), os.fsdecode(b"gr\xfdn"), "gr\nn", "x" * 249]
    assert len({slug(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain name.png", "plain name.png"),
        ("零件 🔩 é", "零件 🔩 é"),
        ("👩\u200d🔧", "👩\u200d🔧"),
        (os.fsdecode(b"gr\xfcn"), r"gr\xfcn"),
        ("a\nb\tc\x1b[31m", r"a\nb\tc\x1b[31m"),
        ("a\u2028b", r"a\u2028b"),
        ("\x85", r"\x85"),
    ],
)
def test_a_printable_name_is_one_line_of_utf_8_text(name, text):
    assert printable(name) == text
    assert printable(text) == text and len(text.encode().decode().splitlines()) == 1


def test_a_name_with_other_bytes_is_no_text():
    assert is_text("零件\n") and not is_text(os.fsdecode(b"gr\xfcn"))


def test_a_text_is_cut_between_its_characters():
    assert [cut_to_bytes("a零b", most) for most in range(6)] == ["", "a", "a", "a", "a零", "a零b"]
