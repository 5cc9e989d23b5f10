"""promptsource templates: the reference's rendering rules, and what is literal and what is input."""

from __future__ import annotations

import functools
import itertools
import pickle
import re
import time
from collections import Counter
from pathlib import Path

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obverse.catalog.promptsource import read_split, read_templates
from obverse.errors import DataError, TemplateError
from obverse.tasks.directions import Direct, Flipped, shorten
from obverse.tasks.examples import Example
from obverse.tasks.promptsource import PromptsourceTemplate
from obverse.tasks.templates import Segment

# Machines may be busy: how long an example takes says nothing here.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
DATA = Path(__file__).parents[2] / "shared" / "data"


def render(jinja, fields, choices=None, *, example_id="1", seed=0):
    return PromptsourceTemplate("t", jinja, choices, seed=seed).render(Example(example_id, fields))


def test_prompt_and_target_are_divided_and_stripped():
    rendering = render("\n {{a}} is what? |||  {{b}} \n", {"a": "rain", "b": " wet "})
    assert rendering.text == "rain is what?"
    assert rendering.target == "wet"
    assert rendering.segments == (Segment("\n "), Segment("rain", "input"), Segment(" is what? "))
    assert all(type(s.text) is str for s in rendering.segments)


def test_without_a_separator_there_is_no_target():
    assert render("{{a}}?", {"a": "rain"}).target is None
    assert render("{{a}}?|||", {"a": "rain"}).target == ""


def test_answer_choices_are_options_and_may_depend_on_the_row():
    rendering = render("{{q}} ||| {{answer_choices[label]}}", {"q": "wet?", "label": 1}, " Yes |||  No")
    assert rendering.options == ("Yes", "No")
    assert rendering.target == "No"
    rendering = render("{{q}} ||| {{answer_choices[0]}}", {"q": "?", "c": ["a", "b", "c"]}, '{{c | join("|||")}}')
    assert rendering.options == ("a", "b", "c")
    rendering = render("{{q}}", {"q": "?", "one": "x", "two": "y"}, "{{one}} ||| {{two}}")
    assert rendering.options == ("x", "y")
    assert render("{{q}}", {"q": "?"}).options is None


def test_a_separator_in_the_data_is_data():
    rendering = render("{{a}} or {{b}} ||| {{a}}", {"a": "x ||| y", "b": "|||"})
    assert rendering.text == "x ||| y or |||"
    assert rendering.target == "x ||| y"
    fields = {"a": "x ||| y", "c": ["p|||q", "r"], "d": {"text": ["s|||t"]}}
    assert render("?", fields, "{{a}} ||| b").options == ("x ||| y", "b")
    assert render("?", fields, '{{c | join("|||")}}').options == ("p|||q", "r")
    assert render("?", fields, "{{d.text[0]}} ||| {{d['text'] | length}}").options == ("s|||t", "1")
    assert render("? ||| {{answer_choices[0]}}", fields, "{{a}} ||| b").target == "x ||| y"


def test_constants_are_literal_and_expressions_are_input():
    rendering = render('{{"Suppose "}}{{a}}{{" is true: "}}{{"" ~ 2}}{{a | upper}}', {"a": "rain"})
    assert rendering.joined() == (
        Segment("Suppose "),
        Segment("rain", "input"),
        Segment(" is true: 2"),
        Segment("RAIN", "input"),
    )


def test_only_the_executed_branch_appears():
    source = "{% if n > 1 %}Many {{a}}.{% else %}One {{a}}.{% endif %} ||| {% if n > 1 %}yes{% else %}no{% endif %}"
    assert render(source, {"n": 2, "a": "x"}).joined() == (
        Segment("Many "),
        Segment("x", "input"),
        Segment(". "),
    )
    assert render(source, {"n": 1, "a": "x"}).chunks == ("One ", ". ")
    assert render(source, {"n": 1, "a": "x"}).target == "no"
    assert render("{% if n > 1 %}Many ||| yes{% endif %}", {"n": 1}).text == ""
    assert render("{% if n > 1 %}Many ||| yes{% endif %}", {"n": 2}).target == "yes"


def test_loops_set_and_zip():
    rendering = render(
        "{% set words = text.split() %}{% for w, n in zip(words, [1, 2]) %}- {{n}}: {{w}}\n{% endfor %}",
        {"text": "a b"},
    )
    assert rendering.text == "- 1: a\n- 2: b"
    assert rendering.joined()[0] == Segment("- ")
    assert [s.text for s in rendering.segments if s.field] == ["1", "a", "2", "b"]


@pytest.mark.parametrize("length", [2047, 2048, 2049, 2053])
def test_the_leeway_of_the_cut(length):
    assert render("{{a}}!", {"a": "x" * length}).text == "x" * length + "!"


def test_every_expression_is_cut_at_a_words_end():
    assert render("{{a}}!", {"a": "x" * 2054}).text == "x" * 2045 + "...!"
    text = "word " * 500  # 2,500 characters; the 2,045th falls behind a whole word and its space
    assert render("{{a}}!", {"a": text}).text == "word " * 408 + "word...!"
    rendering = render("{{a}} ||| {{a}}", {"a": "y" * 3000})
    assert rendering.target == "y" * 2045 + "..."
    # Lists are cut as text, too; options are not cut.
    assert len(render("{{a}}", {"a": ["z" * 3000]}).text) == 2048
    assert render("?", {"a": "y" * 3000}, "{{a}} ||| b").options == ("y" * 3000, "b")


def test_the_cut_is_jinjas_own():
    environment = jinja2.Environment()
    for text in ("a" * 2054, "ab " * 700, "  " * 1100, "é" * 2100 + " x", "x" * 2044 + " yy" * 10):
        expected = environment.from_string("{{a | string | truncate(2048)}}").render(a=text)
        assert render("<{{a}}>", {"a": text}).text == f"<{expected}>"


def test_other_values_are_written_as_jinja_writes_them():
    fields = {"i": 3, "f": 0.5, "n": None, "t": True, "l": [1, "a"], "u": "<b> & 'c'"}
    assert render("{{i}} {{f}} {{n}} {{t}} {{l}} {{u}}", fields).text == "3 0.5 None True [1, 'a'] <b> & 'c'"


def test_the_cut_takes_the_last_operand_alone():
    long = "x" * 3000
    cut = "x" * 2045 + "..."
    assert render("{{ a if n else b }}", {"n": 1, "a": long, "b": long}).text == long
    assert render("{{ a if n else b }}", {"n": 0, "a": long, "b": long}).text == cut
    assert render("{{ a ~ b }}", {"a": long, "b": long}).text == long + cut
    assert render("{{ a + n }}", {"a": "x", "n": 1}).text == "x1"  # 1 is text by then
    assert render("{{ 'y' if n }}", {"n": False}).text == "y"  # and so is False, which is therefore true
    assert render("{{ n == 1 }}", {"n": 1}).text == "False"


def test_a_separator_in_a_field_is_as_long_as_in_the_reference():
    # It stands there as 32 characters: a field of 2,030 characters becomes one of 2,059 and is cut.
    assert render("{{a}}!", {"a": "x " * 1000 + "|||" + "y" * 27}).text == ("x " * 1000).strip() + "...!"
    assert render("{{a | length}}", {"a": "|||"}).text == "32"
    assert render("{{c[0] | length}}", {"c": ["|||"]}).text == "3"


def test_most_frequent():
    assert render("{{ c | most_frequent | join(', ') }}", {"c": ["b", "a", "c", "a", "b"]}).text == "b, a"
    assert render("{{ c | most_frequent }}", {"c": []}).text == "None"


# Random choices


@pytest.mark.parametrize("expression", ["['a', 'b', 'c', 'd'] | choice", "choice(['a', 'b', 'c', 'd'])"])
def test_choice_is_seeded_by_example_and_equal_at_every_call(expression):
    source = "{% set x = " + expression + " %}{{x}} {{q}} {{" + expression + "}}"
    template = PromptsourceTemplate("t", source, None)
    examples = [Example(str(i), {"q": "?"}) for i in range(60)]
    first = [template.render(e).text for e in examples]
    assert [template.render(e).text for e in reversed(examples)] == first[::-1]
    assert [PromptsourceTemplate("t", source, None).render(e).text for e in examples] == first
    # Every item comes up, and the two draws of one rendering are two draws.
    assert {text[0] for text in first} == {text[-1] for text in first} == set("abcd")
    assert any(text[0] != text[-1] for text in first)
    assert [PromptsourceTemplate("t", source, None, seed=1).render(e).text for e in examples] != first


def test_choice_reaches_into_loops_and_answer_choices():
    rendering = render("{% for i in [1, 2] %}{{ range(2, 4) | choice }}{% endfor %}", {})
    assert re.fullmatch("[23]{2}", rendering.text)
    seen = {render("?", {"c": ["p", "q"]}, "{{c | choice}} ||| x", example_id=str(i)).options for i in range(20)}
    assert seen == {("p", "x"), ("q", "x")}


def test_a_field_called_choice_is_the_field():
    # The dream data set has one.
    rendering = render(
        '{{choice | join("; ")}} ||| {{answer_choices[1]}}', {"choice": ["a", "b"]}, '{{choice | join("|||")}}'
    )
    assert rendering.text == "a; b"
    assert rendering.options == ("a", "b")
    assert rendering.target == "b"


def test_choice_among_nothing_is_refused():
    with pytest.raises(TemplateError, match="template 't'"):
        render("{{ items | choice }}", {"items": []})


# What is refused


@pytest.mark.parametrize(
    "source",
    [
        "{{nothing}}",
        "{{row.nothing}}",
        "{{words[5]}}",
        "{% if nothing %}a{% endif %}",
        "{% for x in nothing %}a{% endfor %}",
    ],
)
def test_undefined_names_are_refused(source):
    with pytest.raises(TemplateError, match="template 't': names what the row does not have"):
        render(source, {"row": {}, "words": ["a"]})


@pytest.mark.parametrize(
    "source",
    [
        "{{ ().__class__.__bases__ }}",
        "{{ a.__class__ }}",
        "{{ a['__class__'] }}",
        "{{ a | attr('__class__') }}",
        "{{ a.__class__.__mro__[1].__subclasses__() }}",
        "{{ choice.__globals__ }}",
        "{{ zip.__self__ }}",
        "{{ '{0.__class__}'.format(a) }}",
        "{{ items.append(1) }}",
        "{% for i in range(10000000) %}x{% endfor %}",
        "{{ range(10 ** 12) | list }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include 'secrets.txt' %}",
        "{% import 'os' as os %}",
        "{{ 1 / zero }}",
        "{{ 1 + a }}",
        "{{ a.upper(1) }}",
        "{{ a() }}",
    ],
)
def test_unsafe_and_broken_templates_are_refused(source):
    with pytest.raises(TemplateError, match="template 't'"):
        render(source, {"a": "x", "items": [], "zero": 0})


@pytest.mark.parametrize(
    "source", ["{{ a", "{% if a %}", "{% nonsense %}", "{{ a | no_such_filter }}", "{{ " + "(" * 5000]
)
def test_templates_that_do_not_parse_are_refused(source):
    with pytest.raises(TemplateError, match="template 'its name': does not parse"):
        PromptsourceTemplate("its name", source, None)
    with pytest.raises(TemplateError, match="template 'its name', answer choices: does not parse"):
        PromptsourceTemplate("its name", "fine", source)


def test_what_the_cut_makes_impossible_is_explained():
    with pytest.raises(TemplateError, match=r"reads every }} as \| string \| truncate\(2048\) }}, so `-}}`"):
        PromptsourceTemplate("t", "{{ a -}} ?", None)
    with pytest.raises(TemplateError, match="there is no cutting 'segment'\nDid you mean 'segments'"):
        PromptsourceTemplate("t", "a", None, cutting="segment")
    with pytest.raises(TemplateError, match="are texts"):
        PromptsourceTemplate("t", None, None)
    with pytest.raises(TemplateError, match="field `answer_choices`"):
        render("a", {"answer_choices": ["a"]})


def test_data_of_a_megabyte_is_data():
    text = "word " * 200_000
    assert render("?", {"a": text}, "{{a}} ||| b").options == (text.strip(), "b")
    assert render("{{a}}?", {"a": text}).text == "word " * 408 + "word...?"


@pytest.mark.parametrize("data", ["|||", "<extra_id_0>", "{{", "{% if", "{#", "\x00\x1b", "\ufdd20\ufdd3"])
@pytest.mark.parametrize("cutting", ["segments", "flipped-reference"])
def test_hostile_data_is_data(data, cutting):
    template = PromptsourceTemplate("t", "Is {{a}}? ||| {{answer_choices[1]}}", "{{a}} ||| no", cutting=cutting)
    rendering = template.render(Example("1", {"a": data}))
    assert rendering.segments[1] == Segment(data, "choice")  # it is one of the options
    assert (rendering.text, rendering.options, rendering.target) == (f"Is {data}?", (data.strip(), "no"), "no")
    assert Flipped().query(rendering, "no").given == f"input: <extra_id_0>{data}<extra_id_1>\n output: no"


# The flipped format

RTE = (
    'Using only the above description and what you know about the world, is "{{hypothesis}}" definitely correct? '
    "Yes or no?"
)


def test_the_rte_example_to_the_character():
    fields = {"premise": "PREMISE", "hypothesis": "HYPOTHESIS", "label": 0}
    rendering = render("{{premise}} " + RTE, fields, "Yes ||| No")
    query = Flipped().query(rendering, "Yes")
    assert query.given == "input: PREMISE<extra_id_0>HYPOTHESIS<extra_id_1>\n output: Yes"
    assert query.said.lstrip("\n") == (
        "<extra_id_0>  Using only the above description and what you know about the world, is "
        '"<extra_id_1> " definitely correct? Yes or no?'
    )
    assert Direct().query(rendering, "Yes").given == (
        "PREMISE Using only the above description and what you know about the world, is "
        '"HYPOTHESIS" definitely correct? Yes or no?'
    )
    # With its target the last chunk keeps the space that stands before the separator.
    with_target = render("{{premise}} " + RTE + " ||| {{answer_choices[label]}}", fields, "Yes ||| No")
    assert Flipped().query(with_target, "Yes").said == query.said + " "
    assert with_target.text == rendering.text
    assert with_target.target == "Yes"


def both(jinja, fields, label="yes", choices="yes ||| no"):
    """The flipped query in both cuttings."""
    queries = []
    for cutting in ("segments", "flipped-reference"):
        template = PromptsourceTemplate("t", jinja, choices, cutting=cutting)
        query = Flipped().query(template.render(Example("1", fields)), label)
        queries.append((query.given.removeprefix("input: ").removesuffix(f"\n output: {label}"), query.said[1:]))
    return queries


@pytest.mark.parametrize("cutting", ["segments", "flipped-reference"])
def test_the_rte_example_in_both_cuttings(cutting):
    fields = {"premise": "PREMISE", "hypothesis": "HYPOTHESIS"}
    template = PromptsourceTemplate("t", "{{premise}} " + RTE, "Yes ||| No", cutting=cutting)
    rendering = template.render(Example("1", fields))
    query = Flipped().query(rendering, "Yes")
    assert query.given == "input: PREMISE<extra_id_0>HYPOTHESIS<extra_id_1>\n output: Yes"
    assert query.said.lstrip("\n") == (
        "<extra_id_0>  Using only the above description and what you know about the world, is "
        '"<extra_id_1> " definitely correct? Yes or no?'
    )
    assert (rendering.mask is None) == (cutting == "segments")


def test_constants_are_said_or_stay():
    ours, theirs = both('{{"Suppose "}}{{a}} is true. ||| x', {"a": "A"})
    assert ours == ("<extra_id_0>A<extra_id_1>", "<extra_id_0> Suppose <extra_id_1>  is true. ")
    assert theirs == ("Suppose A<extra_id_0>", "<extra_id_0>  is true. ")


def test_branches_are_said_where_they_run_or_all():
    source = "{% if n %}Many {{a}}.{% else %}One {{a}}!{% endif %} ||| x"
    ours, theirs = both(source, {"n": 0, "a": "A"})
    assert ours == ("<extra_id_0>A<extra_id_1>", "<extra_id_0> One <extra_id_1> ! ")
    said = "<extra_id_0> Many <extra_id_1> .<extra_id_2> One <extra_id_3> !<extra_id_4>  "
    assert theirs == ("<extra_id_2>A<extra_id_3><extra_id_4>", said)
    assert both(source, {"n": 1, "a": "A"})[1] == ("<extra_id_0>A<extra_id_1><extra_id_4>", said)


def test_white_space_takes_a_number_and_nothing_takes_none():
    theirs = both("{{a}}{{b}} {{a}}\n{# gone #}{{b}}", {"a": "A", "b": "B"})[1]
    assert theirs == ("AB<extra_id_0>A<extra_id_1>B", "<extra_id_0>  <extra_id_1> \n")


def test_chunks_are_taken_before_any_stripping():
    theirs = both("  Is {%- if n %} {{a}}{% endif -%}  wet? ", {"a": "A", "n": 1})[1]
    assert theirs == ("<extra_id_0><extra_id_1>A<extra_id_2>", "<extra_id_0>   Is <extra_id_1>  <extra_id_2>   wet? ")


def test_a_loop_repeats_its_number():
    ours, theirs = both("{% for o in l %}- {{o}}\n{% endfor %}?", {"l": ["A", "B"]})
    assert ours == ("<extra_id_0>A<extra_id_1>B<extra_id_2>", "<extra_id_0> - <extra_id_1> \n- <extra_id_2> \n?")
    assert theirs == (
        "<extra_id_0>A<extra_id_1><extra_id_0>B<extra_id_1><extra_id_2>",
        "<extra_id_0> - <extra_id_1> \n<extra_id_2> ?",
    )


def test_chunks_end_at_the_separator():
    source = "{% if n %}A {{a}}\n||| B {{a}}{% endif %} end"
    assert both(source, {"n": 1, "a": "x"})[1] == ("<extra_id_0>x<extra_id_1>", "<extra_id_0> A <extra_id_1> \n")
    # A branch that did not run: nothing is masked, everything is said.
    assert both(source, {"n": 0, "a": "x"})[1] == (" end", "<extra_id_0> A <extra_id_1> \n")
    source = "{% if n %}A {{a}} ||| B{% else %}C {{a}} ||| D{% endif %} ||| E"
    said = "<extra_id_0> A <extra_id_1>  <extra_id_2> C <extra_id_3>  "
    assert both(source, {"n": 1, "a": "x"})[1] == ("<extra_id_0>x<extra_id_1>", said)
    assert both(source, {"n": 0, "a": "x"})[1] == ("<extra_id_2>x<extra_id_3>", said)


def test_captured_chunks_keep_their_numbers():
    source = "{% set q %}Is {{a}}{% endset %}{{q}} {{q | upper}}?"
    assert both(source, {"a": "x"})[1] == (
        "<extra_id_0>x<extra_id_1><extra_id_0>X<extra_id_2>",
        "<extra_id_0> Is <extra_id_1>  <extra_id_2> ?",
    )


def test_the_mask_draws_the_same_random_choices():
    template = PromptsourceTemplate("t", "Is {{ l | choice }}{{ l | choice }}?", None, cutting="flipped-reference")
    for i in range(20):
        rendering = template.render(Example(str(i), {"l": ["a", "b", "c"]}))
        drawn = "".join(s.text for s in rendering.segments if s.field)
        assert "".join(p.text for p in rendering.mask.given if not isinstance(p, int)) == drawn


# Other words


def test_marks_that_a_template_writes_itself():
    template = PromptsourceTemplate(
        "t", "a {{'\ufdd2" + "9" * 1500 + "\ufdd3'}} b {{x}} ||| y", None, cutting="flipped-reference"
    )
    mask = template.render(Example("1", {"x": "\ufdd2" + "9" * 5000 + "\ufdd3"})).mask
    assert mask.chunks == ("a ", " b ", " ")
    assert [piece for piece in mask.given if isinstance(piece, int)] == [0, 1, 2]


def test_sources_that_open_braces_again_and_again_are_refused():
    start = time.thread_time()
    for braces in ("{{", "{%", "{#"):
        with pytest.raises(TemplateError, match=r"t'.*: opens braces more than 1,000 times"):
            PromptsourceTemplate("t", "{% raw %}" + braces * 9_000 + "{% endraw %}", None, cutting="flipped-reference")
    assert time.thread_time() - start < 1


def test_rows_that_are_nested_too_deeply():
    deep = functools.reduce(lambda inner, _: [inner], range(5_000), 1)
    with pytest.raises(TemplateError, match=r"^reviews\.csv, row 1: the row nests data too deeply"):
        template = PromptsourceTemplate("t", "{{x}}", "{{d|length}} ||| b")
        template.render(Example("1", {"d": deep, "x": 1}, where="reviews.csv, row 1"))
    # A field that the answer choices do not name is left alone.
    assert render("{{x}}", {"d": deep, "x": 1}, "{{x}} ||| b").options == ("1", "b")


def test_number_of_answer_choices():
    assert len(render("?", {}, "{{ 'a|||' * 9999 }}").options) == 10_000
    with pytest.raises(TemplateError, match="lists more than 10,000 answer choices"):
        render("?", {}, "{{ 'a|||' * 10000 }}")


def test_many_fields_and_many_options_are_not_compared_each_with_each():
    start = time.thread_time()
    loop = "{% for i in range(8000) %}{{x}}{% endfor %}"
    rendering = render(loop, {"x": "abd"}, "{{ 'abc|||' * 3999 }}")
    assert (len(rendering.segments), len(rendering.options)) == (8_000, 4_000)
    assert render(loop, {"x": "a, b"}, "a ||| b").segments[0] == Segment("a, b", "input")
    assert render("{{x}}", {"x": "a, b"}, "a ||| b").segments == (Segment("a, b", "choice"),)
    assert time.thread_time() - start < 2


def in_capitals(text):
    return text.replace("No", "NO")


@pytest.mark.parametrize("cutting", ["segments", "flipped-reference"])
def test_templates_can_be_pickled(cutting):
    source = "{{a}}: {{answer_choices[0]}}, or No? {{ ['x', 'y', 'z']|choice }} ||| {{answer_choices[label]}}"
    template = PromptsourceTemplate("t", source, "Yes ||| No", seed=7, cutting=cutting)
    examples = [Example(str(i), {"a": f"No {i}", "label": i % 2}) for i in range(20)]
    for original in (template, template.reworded(swapped), template.reworded(swapped).reworded(in_capitals)):
        data = pickle.dumps(original)
        assert len(data) < 1_000
        copied = pickle.loads(data)
        assert list(map(copied.render, examples)) == list(map(original.render, examples))
        assert list(map(copied.options, examples)) == list(map(original.options, examples))
        assert (copied.name, copied.source, copied.seed, copied.cutting) == ("t", source, 7, cutting)
    # A rewording of a copy leaves the copy as it was.
    copied = pickle.loads(pickle.dumps(template))
    assert copied.reworded(swapped).options(examples[0]) == ("No", "Yes")
    assert copied.options(examples[0]) == ("Yes", "No")
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(template.reworded(lambda text: text))


def swapped(text):
    return re.sub("Yes|No|true", lambda m: {"Yes": "No", "No": "Yes", "true": "correct"}[m.group()], text)


def test_options_that_the_prompt_lists_are_neither_blanked_nor_shortened():
    """What pmi and contextual calibration compare with, and what a window takes away, is the instance alone."""
    source = "{{premise}} {{what}}\n- {{one}}\n- {{two}}\n{{ answer_choices | join(', ') }}? {{'Yes'}} ||| {{one}}"
    fields = {"premise": "It rained, or it snowed", "what": "Why?", "one": "clouds came", "two": "it rained"}
    for cutting in ("segments", "flipped-reference"):
        template = PromptsourceTemplate("t", source, "{{one}} ||| {{two}}", cutting=cutting)
        rendering = template.render(Example("1", fields))
        blank = rendering.with_inputs("N/A")
        assert blank.text == "N/A N/A\n- clouds came\n- it rained\nclouds came, it rained? Yes"
        shorter = shorten(rendering, 8)
        assert shorter.text == "It rained, or i Why?\n- clouds came\n- it rained\nclouds came, it rained? Yes"
        for each in (rendering, blank, shorter):
            given, said = masked_sides(each)
            for i, chunk in enumerate(said):
                given = given.replace(f"<extra_id_{i}>", chunk)
            assert given.strip() == each.text


def masked_sides(rendering):
    query = Flipped().query(rendering, "L")
    given = query.given.removeprefix("input: ").removesuffix("\n output: L")
    return given, [chunk[1:] for chunk in re.split(r"<extra_id_\d+>", query.said)[1:]]


@pytest.mark.parametrize("cutting", ["segments", "flipped-reference"])
def test_an_empty_field_still_parts_the_words_round_it(cutting):
    template = PromptsourceTemplate("t", "Title: {{a}} Text: {{b}} End", None, cutting=cutting)
    said = [
        Flipped().query(template.render(Example("1", {"a": a, "b": b})), "l").said
        for a, b in (("x", "y"), ("", "y"), ("", ""))
    ]
    assert set(said) == {"\n<extra_id_0> Title: <extra_id_1>  Text: <extra_id_2>  End"}


def test_a_row_without_a_label_has_no_right_answer():
    template = PromptsourceTemplate("t", "{{a}}? ||| {{answer_choices[label]}}", "no ||| yes")
    targets = [template.render(Example("1", {"a": "x", "label": label})).target for label in (-1, 0, 1)]
    assert targets == [None, "no", "yes"]
    with pytest.raises(TemplateError):
        template.render(Example("1", {"a": "x", "label": 2}))


def test_reworded():
    source = "Is {{a}} true? {{answer_choices | join(' or ')}}? ||| {{answer_choices[label]}}"
    template = PromptsourceTemplate("t", source, "Yes ||| No", cutting="flipped-reference")
    example = Example("1", {"a": "No true Yes", "label": 0})
    rendering = template.reworded(swapped).render(example)
    assert rendering.text == "Is No true Yes correct? No or Yes?"
    assert (rendering.options, rendering.target) == (("No", "Yes"), "No")
    assert rendering.mask.chunks == ("Is ", " correct? ", "? ")
    assert rendering.mask.given == (0, Segment("No true Yes", "input"), 1, Segment("No or Yes", "choice"), 2)
    assert template.reworded(swapped).options(example) == ("No", "Yes")
    # The template itself is as it was, and rewordings add up.
    assert template.render(example).options == ("Yes", "No")
    assert template.reworded(swapped).reworded(swapped).render(example).target == "Yes"
    assert template.reworded(swapped).reworded(str.upper).render(example).options == ("NO", "YES")


def test_reworded_targets_that_are_no_option():
    template = PromptsourceTemplate("t", "? ||| It is true", "Yes ||| No").reworded(swapped)
    assert template.render(Example("1", {})).target == "It is correct"
    template = PromptsourceTemplate("t", "? ||| true {{a}}", None).reworded(swapped)
    assert template.render(Example("1", {"a": "x"})).target == "correct x"
    assert PromptsourceTemplate("t", "true?", None).reworded(swapped).render(Example("1", {})).target is None


def test_reworded_constants_and_literals_in_a_row_are_one_text():
    template = PromptsourceTemplate("t", 'Y{{"e"}}s {{a}}', None).reworded(swapped)
    assert template.render(Example("1", {"a": "Yes"})).segments == (Segment("No "), Segment("Yes", "input"))


simple = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@patient
@given(simple, simple)
def test_any_data_comes_through_unchanged(a, b):
    rendering = render("One {{a}} two {{b}} three ||| {{b}}", {"a": a, "b": b})
    assert rendering.text == f"One {a} two {b} three"
    assert rendering.target == b.strip()
    if a and b:
        assert rendering.chunks == ("One ", " two ", " three ")


# Files


def test_template_files_are_read(tmp_path):
    path = tmp_path / "templates.yaml"
    path.write_text(
        """dataset: x
templates:
  2-b: !Template
    answer_choices: Yes ||| No
    jinja: "{{a}} ||| {{answer_choices[0]}}"
    metadata: !TemplateMetadata
      choices_in_prompt: true
      metrics:
      - Accuracy
      original_task: true
    name: zebra
  1-a: !Template
    answer_choices: null
    jinja: "{{a}}"
    metadata: !TemplateMetadata
      metrics: []
    name: ape
""",
        encoding="utf-8",
    )
    ape, zebra = read_templates(path)
    assert (ape.template.name, ape.classifies, ape.has_choices) == ("ape", False, False)
    assert (zebra.template.name, zebra.classifies, zebra.choices_in_prompt, zebra.original_task) == (
        "zebra",
        True,
        True,
        True,
    )
    assert zebra.template.render(Example("1", {"a": "x"})).target == "Yes"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("templates: [", DataError, "is not YAML"),
        ("a: 1", DataError, "no `templates` mapping"),
        ("- a", DataError, "no `templates` mapping"),
        ("templates:\n  x: !!python/object/apply:os.system ['true']", DataError, "read safely"),
        ("templates:\n  x: {name: n}", TemplateError, "template 'n': has no `jinja` text"),
        ("templates:\n  x: {name: n, jinja: '{{'}", TemplateError, "yaml, template 'n': does not parse"),
        ("templates:\n  x: {name: n, jinja: a, answer_choices: '{{'}", TemplateError, "'n', answer choices: does not"),
        ("templates: {x: 1}", DataError, "template 'x': is not a mapping"),
        ("templates: {x: {jinja: [a]}}", DataError, "template 'x': `jinja` is .*, which is not text"),
        ("templates: {x: {jinja: a, name: yes}}", DataError, "template 'x': `name` is 'True', which is not text"),
        ("templates: {x: {jinja: a, answer_choices: no}}", DataError, "`answer_choices` is 'False', which is not"),
        ("templates: {x: {jinja: a, metadata: [a]}}", DataError, "template 'x': `metadata` is not a mapping"),
        ("templates: {x: {jinja: a, metadata: {metrics: A}}}", DataError, "`metrics` is not a list of texts"),
        ("templates: {x: {jinja: a, metadata: {metrics: [[A]]}}}", DataError, "`metrics` is not a list of texts"),
        ("templates: {x: {jinja: a, metadata: {original_task: A}}}", DataError, "`original_task` is 'A'"),
        ("templates: {a: 1, a: 2}", DataError, "'a' stands there twice"),
        ("a: &a [1]\nb: *a", DataError, "anchors and aliases are not read"),
        ("a: *a", DataError, "anchors and aliases are not read"),
        ("a: " + "[" * 100_000, DataError, "nested more than 20 deep"),
        ("a: !!int '" + "1:" * 100_000 + "1'", DataError, "read safely"),
        ("a: " + "9" * 100_000, DataError, "no `templates` mapping"),
        ("a: \x07", DataError, "read safely"),
        ("a: !!bool maybe", DataError, "read safely"),
        ('a: "\\UFFFFFFFF"', DataError, "read safely"),
        ('a: "\\U00110000"', DataError, "read safely"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: b", DataError, "read safely"),
        ("a: [" + "b," * 10_000 + "]", DataError, "made of more than 10,000 texts, lists and mappings"),
        ("templates: {x: {jinja: a, name: " + "n" * 201 + "}}", DataError, "'x': has a name of more than 200"),
        ("templates: {x: {jinja: '{{', name: " + "n" * 200 + "}}", TemplateError, "'n{200}': does not parse"),
        ('templates: {"\\e[31m": 1}', DataError, r"template '\\x1b\[31m': is not a mapping"),
        ("a: " + "a" * 1_000_000, DataError, "bigger than 1,000,000 bytes"),
    ],
)
def test_broken_template_files_are_refused(tmp_path, text, kind, message):
    path = tmp_path / "templates.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=message):
        read_templates(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_templates(tmp_path / "none.yaml")


def test_files_in_another_encoding_are_refused(tmp_path):
    path = tmp_path / "templates.yaml"
    path.write_bytes("templates: {x: {jinja: é}}".encode("latin-1"))
    with pytest.raises(DataError, match="is not text in UTF-8"):
        read_templates(path)


def test_templates_of_one_name_are_numbered(tmp_path):
    path = tmp_path / "templates.yaml"
    path.write_text(
        "templates: {a: {name: n, jinja: one}, b: {name: n, jinja: two}, c: {name: n (2), jinja: 3}, d: {jinja: 4}}",
        encoding="utf-8",
    )
    assert {record.name: record.template.source for record in read_templates(path)} == {
        "d": "4",
        "n": "one",
        "n (2)": "two",
        "n (2) (2)": "3",
    }


def test_cutting_and_seed_reach_the_templates(tmp_path):
    path = tmp_path / "templates.yaml"
    path.write_text("templates: {a: {jinja: 'x {{a}}', answer_choices: ''}}", encoding="utf-8")
    (record,) = read_templates(path, seed=5, cutting="flipped-reference")
    assert (record.template.seed, record.template.cutting, record.has_choices) == (5, "flipped-reference", False)
    assert record.template.render(Example("1", {"a": "y"})).options is None


# The real files against plain jinja2


HIDDEN = "3ed2dface8203c4c9dfb1a5dc58e41e0"


class Reference:
    """The reference's own way: text replacement in the source, one plain environment, lenient where we are strict."""

    def __init__(self):
        self.environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
        self.environment.globals["zip"] = zip
        self.compiled = {}

    def render(self, source, choices, fields):
        fields = {k: v.replace("|||", HIDDEN) if isinstance(v, str) else v for k, v in fields.items()}
        options = None
        if choices is not None:
            text = self.compile(choices).render(**fields)
            options = tuple(option.strip().replace(HIDDEN, "|||") for option in text.split("|||"))
            fields["answer_choices"] = list(options)
        parts = self.compile(source.replace("}}", " | string | truncate(2048) }}")).render(**fields).split("|||")
        return [part.replace(HIDDEN, "|||").strip() for part in parts], options

    def compile(self, source):
        if source not in self.compiled:
            self.compiled[source] = self.environment.from_string(source)
        return self.compiled[source]


def variants(row):
    """The row itself, with long texts, with separators in its texts, and with both."""
    for long, parted in ((False, False), (True, False), (False, True), (True, True)):
        fields = dict(row.fields)
        for name, value in fields.items():
            if isinstance(value, str) and value:
                if parted:
                    value = f"{value[: len(value) // 2]}|||{value[len(value) // 2 :]} ||| "
                fields[name] = (value + " ") * (3000 // len(value) + 1) if long else value
        yield Example(row.id, fields, where=row.where), long or parted


@pytest.mark.data
def test_real_templates_equal_the_reference():
    if not (DATA / "promptsource").is_dir():
        pytest.skip(f"there is no folder {DATA}")
    reference = Reference()
    usable = rendered = 0
    compared: Counter[bool] = Counter()
    faults: Counter[str] = Counter()
    differences: list[str] = []
    for path in sorted(DATA.glob("promptsource/**/templates.yaml")):
        name = str(path.parent.relative_to(DATA / "promptsource"))
        splits = sorted((DATA / "p3" / name).glob("*.parquet"), key=lambda p: p.stat().st_size)
        if not splits:
            continue
        rows = list(itertools.islice(read_split(DATA, name, splits[0].stem), 3))
        for record in read_templates(path):
            usable += record.classifies
            template, good = record.template, False
            for row, changed in itertools.chain.from_iterable(map(variants, rows)):
                try:
                    rendering = template.render(row)
                except TemplateError as error:
                    if not changed:
                        faults[f"{name}, {error}"] += 1
                    continue
                # A row that the template does not apply to renders to nothing.
                good = good or bool(rendering.text and rendering.target and rendering.options)
                assert "".join(s.text for s in rendering.segments).strip() == rendering.text
                if re.search(r"\bchoice\b", template.source) and "choice" not in row.fields:
                    continue  # other random numbers
                parts, options = reference.render(template.source, _choices_of(path, template.name), dict(row.fields))
                ours = [rendering.text] if rendering.target is None else [rendering.text, rendering.target]
                if rendering.options and any("|||" in option for option in rendering.options):
                    # The reference divides at what the options bring with them; we carry it as data.
                    ours, parts = _undivided(ours), _undivided(parts)
                compared[changed] += 1
                if parts != ours or options != rendering.options:
                    differences.append(f"{name}, {template.name}, {row.id}: {ours} is not {parts}"[:600])
            rendered += good and record.classifies
    print(f"\n{rendered} of {usable} usable templates render; {compared} compared; {dict(faults)}")
    assert not differences, "\n".join(differences[:5])
    assert usable > 300
    assert rendered >= 0.95 * usable
    assert compared[False] > 1000
    assert compared[True] > 2000


def _undivided(parts):
    return [re.sub(r"[\s|]", "", "".join(parts))]


@pytest.mark.data
def test_real_templates_in_the_cutting_of_the_reference():
    if not (DATA / "promptsource").is_dir():
        pytest.skip(f"there is no folder {DATA}")
    seen = 0
    for path in sorted(DATA.glob("promptsource/**/templates.yaml")):
        name = str(path.parent.relative_to(DATA / "promptsource"))
        splits = sorted((DATA / "p3" / name).glob("*.parquet"), key=lambda p: p.stat().st_size)
        rows = list(itertools.islice(read_split(DATA, name, splits[0].stem), 2)) if splits else []
        for record in read_templates(path, cutting="flipped-reference"):
            source = record.template.source.partition("|||")[0]
            chunks = tuple(filter(None, re.split(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", source, flags=re.DOTALL)))
            for row in rows:
                try:
                    rendering = record.template.render(row)
                except TemplateError:
                    continue
                seen += 1
                assert rendering.mask.chunks == chunks
                if rendering.text and "{%-" not in source and "-%}" not in source:
                    # Put back where they stood, the chunks give the prompt.
                    text = "".join(chunks[p] if isinstance(p, int) else p.text for p in rendering.mask.given)
                    assert text.strip() == rendering.text
    assert seen > 600


_SOURCES: dict[Path, dict[str, str | None]] = {}


def _choices_of(path, name):
    import yaml

    if path not in _SOURCES:
        text = path.read_text(encoding="utf-8").replace("!TemplateMetadata", "").replace("!Template", "")
        entries = yaml.safe_load(text)["templates"].values()
        _SOURCES[path] = {str(entry["name"]): entry["answer_choices"] or None for entry in entries}
    return _SOURCES[path][name]
