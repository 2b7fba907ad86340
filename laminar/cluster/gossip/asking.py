"""Who was asked and has not answered yet.

A question is repeated a few times in an interval. How many of them must be in vain before that
means anything depends on how many usually are: where much is lost, or all is slow, more.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log
from typing import Final

from laminar.model import NodeId

REPEATS: Final = 4
"""Times per interval that a question is repeated."""

QUESTIONS_PER_INTERVAL: Final = 8
"""Most of all questions together: many who do not answer may be busy with many questions."""

IN_VAIN_MIN: Final = 2
IN_VAIN_MAX: Final = 8
"""How many repeats mean something, at least and at most."""

CHANCE: Final = 0.01
"""That many questions to a node that lives are all in vain."""

WEIGHT: Final = 0.05
"""Of the newest question in how many are in vain."""


class Question:
    """To one node, since it last spoke."""

    __slots__ = ("asked", "cleared", "due", "since", "told")

    def __init__(self, since: float) -> None:
        self.since = since
        """When it was asked first."""
        self.asked = 0
        """How often it was."""
        self.due = since
        """When there has been no answer for long enough."""
        self.told = False
        """Whether others were told that there is no answer."""
        self.cleared = False
        """Whether others were told that the node lives all the same."""


class Asking:
    """The questions of one node, in the time of a clock that rests while nobody listens."""

    def __init__(self, interval_s: float) -> None:
        self.in_vain_total = 0
        """How many questions had no answer in time."""
        self._interval_s = interval_s
        self._questions: dict[NodeId, Question] = {}
        self._loss = 0.0

    def __len__(self) -> int:
        return len(self._questions)

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._questions)

    def __contains__(self, node: object) -> bool:
        return node in self._questions

    @property
    def due(self) -> float:
        """When :meth:`take_due` has something to return."""
        return min((question.due for question in self._questions.values()), default=float("inf"))

    def question(self, node: NodeId) -> Question | None:
        """What ``node`` has not answered yet."""
        return self._questions.get(node)

    def asked(self, node: NodeId, listened: float, stretch: float) -> None:
        """``node`` was just asked."""
        if node not in self._questions:
            question = self._questions[node] = Question(listened)
            self.again(question, listened, float("inf"), stretch)

    def ask_now(self, node: NodeId, listened: float) -> Question:
        """Have ``node`` asked as soon as possible."""
        question = self._questions.get(node)
        if question is None:
            question = self._questions[node] = Question(listened)
        return question

    def again(self, question: Question, listened: float, deadline: float, stretch: float) -> None:
        """It is asked once more; an answer is waited for until the deadline, or not for long."""
        question.asked += 1
        often = max(1 / REPEATS, len(self._questions) / QUESTIONS_PER_INTERVAL)
        pause = self._interval_s * stretch * often
        question.due = listened + pause
        if listened < deadline:
            question.due = min(question.due, deadline)

    def take_due(self, listened: float) -> list[tuple[NodeId, Question]]:
        """Those who had time to answer and did not."""
        due = [item for item in self._questions.items() if item[1].due <= listened]
        self.in_vain_total += sum(question.asked > 0 for _, question in due)
        return due

    def in_vain(self, question: Question) -> bool:
        """Whether so many were in vain that it means something."""
        return question.asked >= self._enough

    @property
    def extra_intervals(self) -> float:
        """How much longer than elsewhere it takes here until silence means something."""
        return (self._enough - IN_VAIN_MIN) / REPEATS

    @property
    def _enough(self) -> int:
        if self._loss <= CHANCE:
            return IN_VAIN_MIN
        return min(IN_VAIN_MAX, max(IN_VAIN_MIN, ceil(log(CHANCE) / log(self._loss))))

    def answered(self, node: NodeId) -> None:
        """``node`` has just spoken."""
        question = self._questions.pop(node, None)
        if question is not None and question.asked:
            for _ in range(question.asked - 1):
                self._loss += WEIGHT * (1 - self._loss)
            self._loss -= WEIGHT * self._loss

    def drop(self, node: NodeId) -> None:
        """Nobody waits for ``node`` any more."""
        self._questions.pop(node, None)
