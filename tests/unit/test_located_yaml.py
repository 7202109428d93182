"""YAML with positions: what is read, what is refused and where, and how mistakes are worded."""

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from transhume.errors import InvalidFile
from transhume.located_yaml import (
    Quantity,
    Shorthand,
    dotted,
    json_schema,
    read,
    read_file,
    reference_tables,
    renewed,
    validate,
)
from transhume.located_yaml.reading import MAX_BYTES, MAX_DEPTH
from transhume.quantities import parse_bytes, parse_duration


def refusals(text):
    with pytest.raises(InvalidFile) as refused:
        read(text, "f.yaml")
    return [str(mistake) for mistake in refused.value.mistakes]


def mistakes(text):
    return [str(mistake) for mistake in read(text, "f.yaml").mistakes]


class TestReading:
    def test_keys_and_values_know_their_places(self):
        located = read("a: 1\nrules:\n  - pin: {vm: é, cloud: b}\n", "f.yaml")
        assert located.data == {"a": 1, "rules": [{"pin": {"vm": "é", "cloud": "b"}}]}
        path = ("rules", 0, "pin", "cloud")
        key, value = located.key_at(path), located.value_at(path)
        assert ((key.line, key.column), (value.line, value.column)) == ((3, 18), (3, 25))

    def test_a_path_that_is_not_there_is_placed_at_what_is_around_it(self):
        located = read("a:\n  b: 1\n", "f.yaml")
        assert located.value_at(("a", "c", 0)) == located.value_at(("a",))
        assert located.get(("a", "c", 0)) is None
        assert (located.mapping("a", "b"), located.entries("a")) == ({}, [])

    @pytest.mark.parametrize(
        ("word", "meant"),
        [
            ("true", True),
            ("False", False),
            ("0", 0),
            ("-12", -12),
            ("1.50", 1.5),
            ("45m", "45m"),
            ("5%", "5%"),
            ("20MB/s", "20MB/s"),
            ("2030-01-01T18:00Z", "2030-01-01T18:00Z"),
            ("2030-01-01", "2030-01-01"),
            ("10.0.0.1", "10.0.0.1"),
            ("fe80::1", "fe80::1"),
            ("66:51:11:06:19:71", "66:51:11:06:19:71"),
            ("52:54:00:ab:cd:ef", "52:54:00:ab:cd:ef"),
            ("'no'", "no"),
            ('"012"', "012"),
            ("'12:30'", "12:30"),
            ("''", ""),
        ],
    )
    def test_words_on_which_all_readers_agree_are_taken(self, word, meant):
        located = read(f"a: {word}", "f.yaml")
        found = located.data["a"]
        assert (found, type(found), located.mistakes) == (meant, type(meant), ())

    @pytest.mark.parametrize(
        ("word", "remedy"),
        [
            ("no", "write false, or 'no' in quotes"),
            ("Yes", "write true, or 'Yes' in quotes"),
            ("on", "write true"),
            ("OFF", "write false"),
            ("12:30", "quote it: '12:30'"),
            ("190:20:30", "quote it"),
            ("012", "write 12, or '012' in quotes"),
            ("00", "write 0, or '00' in quotes"),
            ("089", "write 89"),
            ("0x1f", "plain digits"),
            ("0o17", "plain digits"),
            ("1_000", "plain digits"),
            ("1e3", "plain digits"),
            (".5", "plain digits"),
            ("+5", "plain digits"),
            (".inf", "plain digits"),
            (".NaN", "plain digits"),
            ("9" * 5000, "too long a number"),
        ],
        ids=lambda text: text[:20],
    )
    def test_words_on_which_readers_disagree_are_refused_where_they_are(self, word, remedy):
        (found,) = mistakes(f"x: 1\na: {word}")
        assert found.startswith("f.yaml:2:4: ")
        assert remedy in found

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("a: 1\nb: 2\na: 3", "f.yaml:3:1: a is here twice (first in line 1); keep one of them"),
            ("a: 1\n'a': 3", "f.yaml:2:1: a is here twice (first in line 1); keep one of them"),
            ("a:\n  b:\n  c: 1", "f.yaml:2:3: b has no value; write one, or remove the key"),
            ("a: ~", "f.yaml:1:1: a has no value; write one, or remove the key"),
            ("a: [1, null]", "f.yaml:1:8: this entry has no value; write one, or remove it"),
            ("12: x", "f.yaml:1:1: the key 12 must be a text; quote it"),
            ("? [a]\n: b", "f.yaml:1:3: a key must be a plain name; write `name: value`"),
            ("a: &x {b: 1}\nc: {<<: *x}", "f.yaml:2:5: merging with << is not supported; "),
        ],
        ids=["twice", "twice, quoted", "no value", "tilde", "in list", "number", "list", "merge"],
    )
    def test_what_nobody_means_is_refused_where_it_is(self, text, found):
        assert mistakes(text)[0].startswith(found)

    def test_a_country_code_as_a_key_is_refused_as_the_trap_that_it_is(self):
        (found,) = mistakes("se: 1\nno: 2")
        assert found.startswith("f.yaml:2:1: no is false to some readers of YAML")

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", "f.yaml:1:1: the file is empty"),
            ("# nothing\n", "f.yaml:1:1: the file is empty"),
            ("- a\n", "f.yaml:1:1: the file must hold keys and values"),
            ("word", "f.yaml:1:1: the file must hold keys and values"),
            ("a: [1,\n b: }", "f.yaml:2:5: not YAML: "),
            ("a:\n\t- b", "f.yaml:2:1: not YAML: "),
            ("a: 'x", "f.yaml:1:6: not YAML: "),
            ("a: *nowhere", "f.yaml:1:4: not YAML: found undefined alias"),
            ("a: 1\n---\nb: 2", "f.yaml:2:1: not YAML: expected a single document"),
            ("a: b\n  c\x07", "f.yaml:2:4: character U+0007 can't be printed"),
            ("a: \ud800", "f.yaml:1:4: character U+D800 can't be printed"),
            ("a: 1\nb: !!python/name:os.system x", "f.yaml:2:4: tag "),
            ("a: !!str 1", "f.yaml:1:4: tag "),
        ],
        ids=lambda text: repr(text[:24]),
    )
    def test_what_can_not_be_read_is_refused_with_its_place(self, text, found):
        (refusal,) = refusals(text)
        assert refusal.startswith(found)

    @pytest.mark.parametrize(
        "text",
        [
            "a: " + "[" * 100_000,
            "a: " + "{a: " * 100_000,
            "- " * 100_000,
            "? " * 100_000,
            "".join(f"{' ' * i}a:\n" for i in range(500)),
            "a: &a [*a]",
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100)),
            "a0: &a0 [x]\n"
            + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
        ],
        ids=["[[[", "{{{", "- - -", "???", "indented", "of itself", "chain", "a billion laughs"],
    )
    def test_hostile_files_are_refused_before_they_cost_anything(self, text):
        assert len(refusals(text)) == 1

    def test_what_a_person_nests_is_read(self):
        depth = MAX_DEPTH - 2
        assert read("a: " + "[" * depth + "]" * depth, "f.yaml").mistakes == ()

    def test_an_alias_stands_for_what_it_names(self):
        assert read("a: &x [1]\nb: *x", "f.yaml").data == {"a": [1], "b": [1]}


class TestFiles:
    @pytest.mark.parametrize(
        ("raw", "found"),
        [
            (b"", "1:1: the file is empty"),
            (b"a: 1\nb: \xff", "2:4: byte 0xff is not UTF-8"),
            ("a: é".encode("utf-16"), "1:1: byte 0xff is not UTF-8"),
            (b"a: " + b"x" * MAX_BYTES, "1:1: larger than"),
        ],
        ids=["empty", "latin-1", "utf-16", "huge"],
    )
    def test_a_file_that_can_not_be_read_is_refused(self, tmp_path, raw, found):
        path = tmp_path / "f.yaml"
        path.write_bytes(raw)
        with pytest.raises(InvalidFile) as refused:
            read_file(path)
        assert str(refused.value).startswith(f"{path}:{found}")

    def test_a_byte_order_mark_is_no_part_of_the_file(self, tmp_path):
        path = tmp_path / "f.yaml"
        path.write_bytes(b"\xef\xbb\xbfa: 1")
        assert read_file(path).data == {"a": 1}

    @pytest.mark.parametrize("name", ["", "missing.yaml", "a\0b", "x" * 300])
    def test_what_is_no_file_is_refused(self, tmp_path, name):
        with pytest.raises(InvalidFile):
            read_file(tmp_path / name)

    def test_a_device_is_not_read(self):
        with pytest.raises(InvalidFile, match="not a regular file"):
            read_file(Path("/dev/zero"))


class Cat(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["cat"]
    lives: int = Field(ge=1, description="how many are left")


class Dog(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["dog"]
    good: bool = True


class Home(BaseModel):
    """A home."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Home")

    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []
    by_name: dict[Annotated[str, Field(max_length=3)], Dog] = Field(
        default={}, description="dogs by name"
    )
    walk: Annotated[float, Quantity(parse_duration, "45m")] | None = Field(
        default=None, description="how long the walk is"
    )
    colours: Annotated[list[str], Field(min_length=1)] = Field(default=["red"])


class Bowl(BaseModel):
    """What a dog eats from."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Bowl")

    holds: Annotated[int, Quantity(parse_bytes, "2GiB")] = Field(description="how much")
    colour: str = "red"


class Kennel(BaseModel):
    """Where a dog lives."""

    model_config = ConfigDict(title="Kennel")

    bowl: Annotated[Bowl, Shorthand("holds", "2GiB")] | None = None


class TestValidation:
    def found(self, text, *checks):
        with pytest.raises(InvalidFile) as refused:
            validate(Home, read(text, "f.yaml"), *checks)
        return [str(mistake) for mistake in refused.value.mistakes]

    def test_a_valid_file_is_an_instance(self):
        home = validate(Home, read("pets: [{kind: cat, lives: 9}]\nwalk: 45m", "f.yaml"))
        assert home == Home.model_construct(
            pets=[Cat(kind="cat", lives=9)], walk=2700.0, by_name={}, colours=["red"]
        )

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("pets:\n  - {kind: cat, lives: 0}", "2:24: pets[0].lives is 0; it must be at least 1"),
            (
                "pets:\n  - {kind: cat}",
                "2:5: pets[0] lacks lives; add it: how many are left",
            ),
            (
                "pets:\n  - {kind: cat, lifes: 9, lives: 9}",
                "2:17: unknown key pets[0].lifes; did you mean lives?",
            ),
            (
                "pets:\n  - {kind: dog, zzz: 9}",
                "2:17: unknown key pets[0].zzz; known here: good, kind",
            ),
            ("pets: {a: b}", "1:7: pets is keys and values; it must be a list"),
            ("pets: x", "1:7: pets is x; it must be a list, such as [x]"),
            ("colours: [12]", "1:11: colours[0] is 12; it must be a text: quote it, as '12'"),
            ("colours: [1.50]", "1:11: colours[0] is 1.50; it must be a text: quote it, as '1.50'"),
            ("colours: []", "1:10: colours has 0 entries; it must have at least 1"),
            (
                "by_name:\n  Rex: {kind: dog, good: 'true'}",
                "2:26: by_name.Rex.good is true; it must be true or false, without quotes",
            ),
            ("by_name:\n  Rex: x", "2:8: by_name.Rex is x; it must be keys and values"),
            ("by_name:\n  Rover: {kind: dog}", "2:3: by_name.Rover is "),
            ("walk: 45", "1:7: walk: 45 has no unit; write a duration with one, such as 45m"),
            ("walk: [45m]", "1:7: walk: a quantity belongs here; write it as in 45m"),
            ("wlak: 45m", "1:1: unknown key wlak; did you mean walk?"),
            ("pets:\n  - {kind: cta}", "2:5: pets[0] is keys and values; "),
        ],
        ids=lambda text: text.replace("\n", " ")[:40],
    )
    def test_a_mistake_says_where_what_and_what_to_do(self, text, found):
        (mistake,) = self.found(text)
        assert mistake.startswith(f"f.yaml:{found}")

    def test_all_mistakes_come_at_once_and_in_order(self):
        lines = self.found("walk: 12:30\npets: [{kind: cat, lives: 0}]\nwalk: 1h\nwlak: 2")
        assert [line.split(":")[1] for line in lines] == ["1", "2", "3", "4"]

    def test_a_word_that_was_refused_is_not_refused_again_for_its_type(self):
        assert len(self.found("pets: no")) == 1

    def test_checks_run_even_where_the_model_has_found_mistakes(self):
        def check(located):
            yield located.mistake(("walk",), "too wet", at_key=True)

        assert [line.rpartition(": ")[2] for line in self.found("walk: 1h\nwlak: 2", check)] == [
            "too wet",
            "unknown key wlak; did you mean walk?",
        ]

    def test_a_path_is_written_as_a_person_would(self):
        assert dotted(("rules", 2, "pin", "cloud")) == "rules[2].pin.cloud"


class TestSchema:
    def test_optional_keys_take_no_null(self):
        schema = json_schema(Home)
        assert "null" not in json.dumps(schema)
        assert schema["properties"]["walk"] == {
            "type": "string",
            "examples": ["45m"],
            "description": "how long the walk is",
        }

    def test_a_page_is_renewed_between_its_marks_only(self):
        page = (
            "# Homes\n<!-- generated from the schema: begin -->\nold\n"
            "<!-- generated from the schema: end -->\nThe end.\n"
        )
        new = renewed(page, Dog)
        assert new.startswith("# Homes\n")
        assert new.endswith("The end.\n")
        assert "old" not in new
        assert reference_tables(Dog) in new
        assert renewed(new, Dog) == new

    def test_what_has_a_shorthand_is_told_of_with_it_and_known_in_full(self):
        assert "| `bowl` | text, such as `2GiB` or [Bowl](#bowl) | – |" in reference_tables(Kennel)
        assert Kennel(bowl="1GB") == Kennel(bowl={"holds": "1GB"})
        with pytest.raises(InvalidFile) as refused:
            validate(Kennel, read("bowl: {holds: 1GB, colou: red}", "f.yaml"))
        assert str(refused.value.mistakes[0]).endswith("did you mean colour?")
        with pytest.raises(InvalidFile) as refused:
            validate(Kennel, read("bowl: {colour: red}", "f.yaml"))
        assert str(refused.value.mistakes[0]).endswith("bowl lacks holds; add it: how much")

    def test_a_page_without_marks_is_refused(self):
        with pytest.raises(ValueError, match="lacks the marks"):
            renewed("# Homes\n", Dog)


YAML_LIKE = st.text(
    alphabet=st.sampled_from("ab01:-,[]{}&*!|>'\"#%@`?~<= \n\t.\\e\u00e9\ufeff\0"), max_size=60
)


@given(st.text() | YAML_LIKE)
def test_any_text_is_data_with_places_or_a_refusal(text):
    try:
        located = read(text, "f.yaml")
    except InvalidFile as refused:
        told = refused.mistakes
    else:
        assert isinstance(located.data, dict)
        assert located.keys.keys() <= located.values.keys()
        told = located.mistakes
    assert all(m.line >= 1 and m.column >= 1 and m.message for m in told)
