"""promptsource templates: the reference's rendering rules, and what is literal and what is input."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obverse.catalog.promptsource import read_split, read_templates
from obverse.errors import DataError, TemplateError
from obverse.tasks.directions import Direct, Flipped
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
    rendering = render('{{"Suppose "}}{{a}}{{" is true: "}}{{1 + 1}}{{a | upper}}', {"a": "rain"})
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
        "{{ a + 1 }}",
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
    with pytest.raises(TemplateError, match="template 'its name': does not parse"):
        PromptsourceTemplate("its name", "fine", source)


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
        ("templates:\n  x: {name: n}", TemplateError, "template x: has no `jinja` text"),
        ("templates:\n  x: {name: n, jinja: '{{'}", TemplateError, "does not parse"),
    ],
)
def test_broken_template_files_are_refused(tmp_path, text, kind, message):
    path = tmp_path / "templates.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=message):
        read_templates(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_templates(tmp_path / "none.yaml")


# The real files against plain jinja2


class Reference:
    """The reference's own way: text replacement in the source, one plain environment, lenient where we are strict."""

    def __init__(self):
        self.environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
        self.environment.globals["zip"] = zip

    def render(self, source, choices, fields):
        mark = "3ed2dface8203c4c9dfb1a5dc58e41e0"
        fields = {k: v.replace("|||", mark) if isinstance(v, str) else v for k, v in fields.items()}
        options = None
        if choices is not None:
            text = self.environment.from_string(choices).render(**fields)
            options = tuple(option.strip().replace(mark, "|||") for option in text.split("|||"))
            fields["answer_choices"] = list(options)
        source = source.replace("}}", " | string | truncate(2048) }}")
        parts = self.environment.from_string(source).render(**fields).split("|||")
        return [part.replace(mark, "|||").strip() for part in parts], options


@pytest.mark.data
def test_real_templates_equal_the_reference():
    if not (DATA / "promptsource").is_dir():
        pytest.skip(f"there is no folder {DATA}")
    usable, rendered, compared = 0, 0, 0
    faults: Counter[str] = Counter()
    differences: list[str] = []
    for path in sorted(DATA.glob("promptsource/**/templates.yaml")):
        name = str(path.parent.relative_to(DATA / "promptsource"))
        splits = sorted((DATA / "p3" / name).glob("*.parquet"), key=lambda p: p.stat().st_size)
        if not splits:
            continue
        rows = list(itertools.islice(read_split(DATA, name, splits[0].stem), 4))
        for record in read_templates(path):
            if not record.classifies:
                continue
            usable += 1
            template, good = record.template, False
            for row in rows:
                try:
                    rendering = template.render(row)
                except TemplateError as error:
                    faults[f"{name}, {error}"] += 1
                    continue
                # A row that the template does not apply to renders to nothing.
                good = good or bool(rendering.text and rendering.target and rendering.options)
                if re.search(r"\bchoice\b", template.source) and "choice" not in row.fields:
                    continue  # other random numbers
                parts, options = Reference().render(template.source, _choices_of(path, template.name), dict(row.fields))
                compared += 1
                ours = [rendering.text] if rendering.target is None else [rendering.text, rendering.target]
                if parts[: len(ours)] != ours or len(parts) > len(ours) or options != rendering.options:
                    differences.append(f"{name}, {template.name}, {row.id}: {ours} is not {parts}"[:600])
            rendered += good
    print(f"\n{rendered} of {usable} usable templates render; {compared} renderings compared; {dict(faults)}")
    assert not differences, "\n".join(differences[:5])
    assert usable > 300
    assert rendered >= 0.95 * usable


_SOURCES: dict[Path, dict[str, str | None]] = {}


def _choices_of(path, name):
    import yaml

    if path not in _SOURCES:
        text = path.read_text(encoding="utf-8").replace("!TemplateMetadata", "").replace("!Template", "")
        entries = yaml.safe_load(text)["templates"].values()
        _SOURCES[path] = {str(entry["name"]): entry["answer_choices"] or None for entry in entries}
    return _SOURCES[path][name]
