import json
import re
from pathlib import Path

import pytest

from laminar.admin.exposition import Exposition
from tests.admin.snapshots import FULL

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "laminar.json"
VARIABLE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def graphs(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def questions(dashboard, graphs):
    yield from (target["expr"] for graph in graphs for target in graph["targets"])
    variables = dashboard["templating"]["list"]
    yield from (each["query"]["query"] for each in variables if each["type"] == "query")


def exported():
    text, _ = Exposition(lambda: FULL).text("")
    return set(re.findall(r"^(\w+)(?:{.*})? \S+$", text.decode(), re.MULTILINE))


def test_it_asks_only_for_what_is_exported(dashboard, graphs):
    asked = set()
    for question in questions(dashboard, graphs):
        names = re.findall(r"\b(?:laminar|process|python)_\w+", question)
        assert names, question
        asked.update(names)
    assert asked <= exported()


def test_it_uses_labels_that_there_are(graphs):
    text, _ = Exposition(lambda: FULL).text("")
    for graph in graphs:
        for target in graph["targets"]:
            name = re.search(r"\b(?:laminar|process|python)_\w+", target["expr"]).group()
            sample = re.search(rf"^{name}(?:{{(.*)}})? ", text.decode(), re.MULTILINE).group(1)
            labels = {"instance", *re.findall(r'(\w+)="', sample or "")}
            by = re.search(r"by \(([^)]*)\)", target["expr"]).group(1).split(", ")
            assert set(by) <= labels
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) == set(by)


def test_counters_are_asked_for_their_rate(graphs):
    for graph in graphs:
        for target in graph["targets"]:
            grows = "_total{" in target["expr"]
            assert grows == bool(re.search(r"(rate|increase)\(\w+_total{", target["expr"]))


def test_the_data_source_is_a_variable(dashboard, graphs):
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for graph in graphs:
        assert graph["datasource"] == VARIABLE
        assert all(target["datasource"] == VARIABLE for target in graph["targets"])


def test_panels_are_told_apart_and_do_not_overlap(dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        taken |= cells
